// SPDX-License-Identifier: Apache-2.0
//! `/containers/volumes`: directories that containers share, each an overlay
//! of what the image brought.

use std::path::Path;

use init::action::Kernel;
use init::mountinfo::MountTable;

use super::plan::Place;
use super::{Error, Listing, MountEntry, Step, apply, folders};

/// Lists the volumes under `containers` (`/containers` in an image).
///
/// # Errors
/// The folder is there and cannot be read.
pub fn list(containers: &Path) -> Result<Listing, Error> {
    folders(&containers.join("volumes"), "a volume", |name| {
        let reserved = name.contains([':', ',', '\\']);
        reserved.then_some("has one of :,\\ in it, which overlay options cannot carry")
    })
}

/// How to mount the volume in `dir`: an overlay of `lower` on `merged`.
///
/// With `tmp` it is writable. The image's own `tmp` may be on a read-only
/// root, and cannot hold an overlay's upper layer where the root is
/// squashfs: a tmpfs is mounted on it. Without `tmp` the overlay has no upper
/// layer and is read-only for good, whatever a container remounts. overlayfs
/// then wants two lower directories; the second is the mount point, empty.
pub fn plan(dir: &Path) -> Vec<Step> {
    let step = |fstype: &str, destination: &Path, options: Vec<String>| Step::Mount {
        at: Place { root: "/".into(), path: destination.to_owned() },
        entry: MountEntry {
            source: fstype.to_owned(),
            destination: destination.to_owned(),
            fstype: fstype.to_owned(),
            options,
        },
    };
    let (lower, merged, tmp) = (dir.join("lower"), dir.join("merged"), dir.join("tmp"));
    let word = |name: &str, path: &Path| format!("{name}={}", path.display());
    if !tmp.is_dir() {
        let layers = format!("{}:{}", word("lowerdir", &lower), merged.display());
        return vec![step("overlay", &merged, vec!["ro".to_owned(), layers])];
    }
    let (upper, work) = (word("upperdir", &tmp.join("upper")), word("workdir", &tmp.join("work")));
    vec![
        step("tmpfs", &tmp, vec!["mode=0755".to_owned(), "private".to_owned()]),
        step("overlay", &merged, vec![word("lowerdir", &lower), upper, work]),
    ]
}

/// Mounts the volume in `dir`; again is as good as once.
///
/// # Errors
/// The first step that fails; what was mounted by then is taken back.
pub fn mount(dir: &Path, kernel: &dyn Kernel, mounts: &MountTable) -> Result<(), Error> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    apply::apply(&format!("volume {name}"), &plan(dir), kernel, mounts).map(drop)
}
