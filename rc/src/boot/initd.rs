// SPDX-License-Identifier: Apache-2.0
//! `/etc/init.d` and `/etc/shutdown.d`: what is done in the order of names.
//!
//! An entry that is a link to our own program is a stage, done in this
//! process; everything else is run to its end. A stage that no entry asks for
//! is done at its usual place, so an image without containerd's package still
//! starts its services.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Stages that are done in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnStage {
    /// Mount `/containers/volumes`.
    Volumes,
    /// Run the containers of `/containers/onboot`.
    Onboot,
    /// Start the services.
    Services,
    /// Run the containers of `/containers/onshutdown`.
    Onshutdown,
}

impl OwnStage {
    /// Which stage a link's name stands for: LinuxKit's contract goes by
    /// what the name contains.
    pub fn of_link(name: &str) -> Option<Self> {
        // onshutdown before onboot has no meaning: neither holds the other.
        [
            ("volumes", Self::Volumes),
            ("onboot", Self::Onboot),
            ("onshutdown", Self::Onshutdown),
            ("containerd", Self::Services),
        ]
        .into_iter()
        .find_map(|(word, stage)| name.contains(word).then_some(stage))
    }
}

impl fmt::Display for OwnStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Volumes => "volumes",
            Self::Onboot => "onboot",
            Self::Services => "services",
            Self::Onshutdown => "onshutdown",
        })
    }
}

/// One entry of the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A program of the image's.
    Script(PathBuf),
    /// A stage of ours.
    Own(OwnStage),
}

impl Entry {
    /// The name that `lkinit.break=` has for it: a stage's, or the file's.
    pub fn name(&self) -> String {
        match self {
            Self::Script(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            Self::Own(stage) => stage.to_string(),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Script(path) => write!(f, "run {}", path.display()),
            Self::Own(stage) => write!(f, "stage {stage}"),
        }
    }
}

/// The stages of a boot and the names they go by when no entry asks for them.
pub const BOOT: &[(&str, OwnStage)] = &[
    ("005-volumes", OwnStage::Volumes),
    ("010-onboot", OwnStage::Onboot),
    ("020-containerd", OwnStage::Services),
];

/// The same for a shutdown.
pub const SHUTDOWN: &[(&str, OwnStage)] = &[("010-onshutdown", OwnStage::Onshutdown)];

/// What is to be done for a folder, in order. `own` is our program's file,
/// symbolic links resolved. A folder that is not there has no entries. A script
/// that has the usual name of a stage comes before the stage.
///
/// # Errors
/// Those of reading the folder.
pub fn plan(folder: &Path, own: &Path, stages: &[(&str, OwnStage)]) -> io::Result<Vec<Entry>> {
    let mut entries: Vec<(OsString, Entry)> = Vec::new();
    match fs::read_dir(folder) {
        Ok(files) => {
            for file in files {
                let file = file?;
                let (name, path) = (file.file_name(), file.path());
                // Symbolic links followed; what leads nowhere is no file.
                if !fs::metadata(&path).is_ok_and(|data| data.is_file()) {
                    continue;
                }
                let ours = fs::canonicalize(&path).is_ok_and(|target| target == own);
                let entry = match OwnStage::of_link(&name.to_string_lossy()).filter(|_| ours) {
                    Some(stage) => Entry::Own(stage),
                    None => Entry::Script(path),
                };
                entries.push((name, entry));
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    for (name, stage) in stages {
        if !entries.iter().any(|(_, entry)| *entry == Entry::Own(*stage)) {
            entries.push((name.into(), Entry::Own(*stage)));
        }
    }
    entries.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(entries.into_iter().map(|(_, entry)| entry).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_to_us_are_stages_and_the_rest_is_run() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let own = root.join("service");
        fs::write(&own, "").unwrap();
        let folder = root.join("init.d");
        fs::create_dir(&folder).unwrap();
        fs::create_dir(folder.join("000-folder")).unwrap();
        symlink(&own, folder.join("010-onboot")).unwrap();
        symlink(&own, folder.join("020-containerd")).unwrap();
        symlink("/nonexistent/x", folder.join("015-broken")).unwrap();
        fs::write(folder.join("002-logging"), "").unwrap();
        fs::write(folder.join("030-onboot-extra"), "").unwrap();
        let plan = |stages| plan(&folder, &own, stages).unwrap();
        let lines = |entries: Vec<Entry>| {
            let text = |entry: &Entry| entry.to_string().replace(folder.to_str().unwrap(), "");
            entries.iter().map(text).collect::<Vec<_>>()
        };
        assert_eq!(
            lines(plan(BOOT)),
            ["run /002-logging", "stage volumes", "stage onboot", "stage services", "run /030-onboot-extra"]
        );
        assert_eq!(plan(&[]).len(), 4);
    }

    /// An image may have its own idea of what `020-containerd` is.
    #[test]
    fn a_script_by_a_stages_name_is_run_and_so_is_the_stage() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("020-containerd"), "").unwrap();
        fs::write(dir.path().join("021-after"), "").unwrap();
        let entries = plan(dir.path(), Path::new("/nonexistent/y"), BOOT).unwrap();
        let names: Vec<String> = entries.iter().map(Entry::name).collect();
        assert_eq!(names, ["volumes", "onboot", "020-containerd", "services", "021-after"]);
    }

    #[test]
    fn without_a_folder_the_stages_remain() {
        let entries = plan(Path::new("/nonexistent/x"), Path::new("/nonexistent/y"), BOOT).unwrap();
        assert_eq!(entries.len(), 3);
    }
}
