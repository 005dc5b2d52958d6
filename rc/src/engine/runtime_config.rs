// SPDX-License-Identifier: Apache-2.0
//! LinuxKit's own settings for containerd's start.

use std::fs;
use std::io;
use std::path::Path;

use serde::Deserialize;

/// LinuxKit's words for containerd's command line and where its output goes.
pub const RUNTIME_CONFIG: &str = "/etc/containerd/runtime-config.toml";

/// What `/etc/containerd/runtime-config.toml` may hold.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
pub struct RuntimeConfig {
    /// Words for the daemon's command line, split at white space.
    #[serde(default)]
    pub cliopts: String,
    /// Where its standard output goes: `stdout`, `stderr` (of rc, so the
    /// console) or an absolute path.
    #[serde(default)]
    pub stdout: Option<String>,
    /// Where its standard error goes, likewise.
    #[serde(default)]
    pub stderr: Option<String>,
}

impl RuntimeConfig {
    /// Reads the file; without one, everything is as usual. One that cannot
    /// be read is the second value's warning.
    pub fn load(path: &Path) -> (Self, Option<String>) {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return (Self::default(), None),
            Err(error) => {
                let warning =
                    format!("cannot read {}: {error}; containerd starts without it", path.display());
                return (Self::default(), Some(warning));
            }
        };
        match toml::from_str(&text) {
            Ok(config) => (config, None),
            Err(error) => {
                let line = error
                    .span()
                    .and_then(|span| text.get(..span.start))
                    .map_or(1, |before| before.matches('\n').count() + 1);
                let reason = error.message();
                let path = path.display();
                (
                    Self::default(),
                    Some(format!("{path}:{line}: {reason}; containerd starts without this file")),
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> (RuntimeConfig, Option<String>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        let (config, warning) = RuntimeConfig::load(file.path());
        (config, warning.map(|text| text.replace(&file.path().display().to_string(), "FILE")))
    }

    #[test]
    fn the_runtime_configuration() {
        let (config, warning) = load("cliopts=\"--log-level debug\"\nstderr=\"stdout\"\nother = 1\n");
        assert_eq!(config.cliopts, "--log-level debug");
        assert_eq!(config.stderr.as_deref(), Some("stdout"));
        assert_eq!((config.stdout, warning), (None, None));
    }

    #[test]
    fn a_broken_runtime_configuration_names_the_line() {
        let (config, warning) = load("cliopts=\"\"\nstdout=[\n");
        assert_eq!(config, RuntimeConfig::default());
        let warning = warning.unwrap();
        assert!(warning.starts_with("FILE:2: ") || warning.starts_with("FILE:3: "), "{warning}");
        let wrong_type = load("\n\nstdout = 5\n").1.unwrap();
        assert!(wrong_type.starts_with("FILE:3: ") && !wrong_type.contains('\n'), "{wrong_type}");
        let missing = RuntimeConfig::load(Path::new("/nonexistent/x"));
        assert_eq!(missing, (RuntimeConfig::default(), None));
    }
}
