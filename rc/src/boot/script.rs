// SPDX-License-Identifier: Apache-2.0
//! A script of the image's, run to its end: once, also when rc does not live
//! to see that.
//!
//! Before it is started, this is noted as a step that is begun, with its name in
//! a file; its own process adds its number there before it becomes the script.
//! An rc that takes over waits for the end of that process, and finds in PID 1's
//! record how it was; without a number the script has never run.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;

use init::sys::clock::since_boot;
use init::sys::process::note_itself;
use init::{debug, error, info, warning};

use crate::engine::Exit;
use crate::linger::watched;
use crate::process::{self, Identity};
use crate::system::System;
use crate::{paths, shell};

/// Runs a script to its end, or waits for the end of one that an rc before this
/// one has started. `step` is its name among the steps of the boot; `file` has
/// the process.
pub(super) async fn run(system: &Rc<System>, path: &Path, step: &str, file: &Path) {
    let (console, timeline) = (&system.console, &system.timeline);
    let begin = since_boot();
    let lane = format!("script {}", path.file_name().unwrap_or_default().display());
    let label = path.display().to_string();
    timeline.follow(&lane);
    timeline.begin(&lane, "run");
    let begun = format!("{step} begun");
    let earlier = if system.progress.has(&begun) { earlier(path, file) } else { None };
    system.progress.mark(&begun);
    let still = format!("{label}: still running");
    let exit = if let Some(process) = earlier {
        info!(console, "{label}: was started before rc was; waiting for its end");
        let pid = Some(process.pid.cast_unsigned());
        let end = async { process::end_of_stranger(process).await.unwrap_or(Exit::LOST) };
        watched(console, &still, pid, end).await
    } else {
        let mut command = Command::new(path);
        command.env("PATH", paths::PATH).stdin(Stdio::null()).current_dir("/");
        if let Err(error) = note(&mut command, &label, file) {
            let file = file.display();
            warning!(
                console,
                "{label}: cannot write {file}: {error}; an rc that takes over may run it again"
            );
        }
        let child = match system.reaper.spawn(&mut command) {
            Ok(child) => child,
            Err(error) => {
                timeline.fail(&lane, "run", &error);
                timeline.lead(&lane);
                error!(console, "{label}: cannot be run: {error}; the boot goes on");
                return shell::after_failure(system, &label).await;
            }
        };
        watched(console, &still, Some(child.pid.cast_unsigned()), child.wait()).await
    };
    match exit.success() {
        true => timeline.end(&lane, "run"),
        false => timeline.fail(&lane, "run", exit),
    }
    timeline.lead(&lane);
    if exit.success() {
        let took = since_boot().saturating_sub(begin).as_secs_f32();
        return debug!(console, "{label}: done in {took:.3}s");
    }
    error!(console, "{label}: failed: {exit}; the boot goes on");
    shell::after_failure(system, &label).await;
}

/// Notes which script is next; its process adds itself behind that.
fn note(command: &mut Command, label: &str, file: &Path) -> io::Result<()> {
    fs::write(file, format!("{label}\n"))?;
    note_itself(command, OpenOptions::new().append(true).open(file)?);
    Ok(())
}

/// The process of a script that was begun. `None`: it has never run.
fn earlier(path: &Path, file: &Path) -> Option<Identity> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let (label, process) = text.rsplit_once('\n')?;
    process.parse().ok().filter(|_| label == path.display().to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::time::Duration;

    use init::cmdline::Cmdline;
    use init::console::Console;
    use init::testing::PATIENCE;
    use tempfile::TempDir;
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::progress::Progress;
    use crate::reaper::Reaper;

    /// A script that writes a line at its beginning and one at its end, which
    /// comes when there is a file `go` (or nothing any more).
    fn script(dir: &TempDir) -> PathBuf {
        let path = dir.path().join("001-slow");
        let (log, go) = (dir.path().join("log"), dir.path().join("go"));
        let (log, go) = (log.display(), go.display());
        let text = format!(
            "#!/bin/sh\necho begin >>{log}\nuntil [ -e {go} ] || [ ! -e {log} ]; do sleep 0.1; done\necho end >>{log}\n"
        );
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// What an rc does that takes over, and what was printed by then.
    fn take_over(dir: &TempDir, path: &Path) -> (String, String) {
        let console = dir.path().join("console");
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let to = Arc::new(Console::to_file(fs::File::create(&console).unwrap()));
            let progress = Progress::open(&dir.path().join("progress")).unwrap();
            let system = Rc::new(System::attach(to, Cmdline::default(), Reaper::default(), progress, None));
            let file = dir.path().join("script");
            let taken_over = run(&system, path, "run it", &file);
            let go = async {
                while !read(&console).contains("was started before rc was") {
                    sleep(Duration::from_millis(20)).await;
                }
                fs::write(dir.path().join("go"), "").unwrap();
            };
            // Nobody reaps what is started here.
            let both = async { tokio::join!(taken_over, go) };
            timeout(PATIENCE, both).await.expect("it was started a second time");
        });
        (read(&dir.path().join("log")), read(&console))
    }

    /// Starts it as an rc does that is killed at once then; `over`: its end
    /// comes before the next rc.
    fn cut_short(over: bool) -> (String, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = script(&dir);
        Progress::open(&dir.path().join("progress")).unwrap().mark("run it begun");
        let mut command = Command::new(&path);
        note(&mut command, &path.display().to_string(), &dir.path().join("script")).unwrap();
        let mut child = command.spawn().unwrap();
        if over {
            fs::write(dir.path().join("go"), "").unwrap();
            child.wait().unwrap();
        }
        let reaped = std::thread::spawn(move || child.wait().unwrap());
        let told = take_over(&dir, &path);
        reaped.join().unwrap();
        told
    }

    #[test]
    fn a_script_that_was_started_is_not_run_a_second_time() {
        for over in [false, true] {
            let (log, console) = cut_short(over);
            assert_eq!(log, "begin\nend\n", "over: {over}");
            assert!(console.contains("001-slow: was started before rc was; waiting"), "{console}");
        }
    }

    #[test]
    fn a_script_that_was_to_be_started_and_never_was_is_run() {
        let dir = tempfile::tempdir().unwrap();
        let (path, file) = (script(&dir), dir.path().join("script"));
        assert_eq!(earlier(&path, &file), None);
        // The note is of the script before it.
        let us = Identity::of(std::process::id().cast_signed()).unwrap();
        fs::write(&file, format!("/etc/init.d/000-other\n{us}")).unwrap();
        assert_eq!(earlier(&path, &file), None);
        // It was next, and no process came of it.
        fs::write(&file, format!("{}\n", path.display())).unwrap();
        assert_eq!(earlier(&path, &file), None);
        fs::write(&file, format!("{}\n{us}", path.display())).unwrap();
        assert_eq!(earlier(&path, &file), Some(us));
    }
}
