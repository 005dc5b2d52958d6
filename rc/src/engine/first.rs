// SPDX-License-Identifier: Apache-2.0
//! The first process of a container, by the file of whichever engine has
//! started it: nobody has to be asked, who may hang.

use std::fs;
use std::path::Path;

use super::{Id, containerd, direct};
use crate::process::Identity;

/// The first process of a container, while it runs.
pub fn process(id: &Id) -> Option<Identity> {
    process_by(id, Path::new(direct::STATE), Path::new(containerd::BUNDLES))
}

fn process_by(id: &Id, direct: &Path, shims: &Path) -> Option<Identity> {
    let by_direct = fs::read_to_string(direct.join(&id.namespace).join(format!("{}.pid", id.name)));
    if let Some(identity) = by_direct.ok().and_then(|text| text.parse::<Identity>().ok())
        && identity.is_alive()
    {
        return Some(identity);
    }
    let pid = fs::read_to_string(shims.join(&id.namespace).join(&id.name).join("init.pid")).ok()?;
    let identity = Identity::of(pid.trim().parse().ok()?)?;
    identity.is_alive().then_some(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_by_either_engines_file() {
        let dir = tempfile::tempdir().unwrap();
        let (direct, shims) = (dir.path().join("direct"), dir.path().join("shims"));
        let id = Id { namespace: "n".to_owned(), name: "x".to_owned() };
        assert_eq!(process_by(&id, &direct, &shims), None);
        let us = Identity::of(std::process::id().cast_signed()).unwrap();
        fs::create_dir_all(shims.join("n/x")).unwrap();
        fs::write(shims.join("n/x/init.pid"), us.pid.to_string()).unwrap();
        assert_eq!(process_by(&id, &direct, &shims), Some(us));
        fs::create_dir_all(direct.join("n")).unwrap();
        fs::write(direct.join("n/x.pid"), format!("{} {}", us.pid, us.start + 1)).unwrap();
        fs::write(shims.join("n/x/init.pid"), "no number").unwrap();
        assert_eq!(process_by(&id, &direct, &shims), None, "another process has the number now");
        fs::write(direct.join("n/x.pid"), us.to_string()).unwrap();
        assert_eq!(process_by(&id, &direct, &shims), Some(us));
    }
}
