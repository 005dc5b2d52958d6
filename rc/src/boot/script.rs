// SPDX-License-Identifier: Apache-2.0
//! A script of the image's, run to its end: once, also when rc does not live
//! to see that.
//!
//! Before it is started this is noted as a step that is begun; when it is, its
//! process is noted in a file. An rc that takes over waits for the end of that
//! process, and finds in PID 1's record how it was.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;

use init::sys::clock::since_boot;
use init::{debug, error, info};

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
        let child = match system.reaper.spawn(&mut command) {
            Ok(child) => child,
            Err(error) => {
                timeline.fail(&lane, "run", &error);
                timeline.lead(&lane);
                error!(console, "{label}: cannot be run: {error}; the boot goes on");
                return shell::after_failure(system, &label).await;
            }
        };
        if let Some(process) = Identity::of(child.pid) {
            // Without the note it is found by its command line, while it runs.
            let _ = fs::write(file, format!("{process}\n{label}"));
        }
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

/// The process of a script that was begun: by its note, or, where rc was killed
/// before it wrote that, by its command line. `None`: it has never run.
fn earlier(path: &Path, file: &Path) -> Option<Identity> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let noted = text.split_once('\n').filter(|(_, label)| *label == path.display().to_string());
    if let Some((process, _)) = noted {
        return process.parse().ok();
    }
    let path = path.as_os_str().as_bytes();
    let own = std::process::id().cast_signed();
    // As the kernel calls an interpreter: the script is one of the first words.
    let found = process::find(|words| words.iter().take(3).any(|word| *word == path));
    // What it has left in the background is younger than it is.
    found.into_iter().filter(|process| process.pid != own).min_by_key(|process| process.start)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::time::Duration;

    use init::cmdline::Cmdline;
    use init::console::Console;
    use init::testing::{PATIENCE, wait_until};
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

    /// Starts it as an rc does that is killed at once then, `noted` or not.
    fn cut_short(noted: bool) -> (String, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = script(&dir);
        Progress::open(&dir.path().join("progress")).unwrap().mark("run it begun");
        let mut child = Command::new(&path).spawn().unwrap();
        // Until it is under way, its command line is empty.
        wait_until("its first line", || dir.path().join("log").exists());
        if noted {
            let process = Identity::of(child.id().cast_signed()).unwrap();
            fs::write(dir.path().join("script"), format!("{process}\n{}", path.display())).unwrap();
        }
        let reaped = std::thread::spawn(move || child.wait().unwrap());
        let told = take_over(&dir, &path);
        reaped.join().unwrap();
        told
    }

    #[test]
    fn a_script_that_runs_already_is_not_run_a_second_time() {
        for noted in [true, false] {
            let (log, console) = cut_short(noted);
            assert_eq!(log, "begin\nend\n", "noted: {noted}");
            assert!(console.contains("001-slow: was started before rc was; waiting"), "{console}");
        }
    }

    #[test]
    fn a_script_that_was_to_be_started_and_never_was_is_run() {
        let dir = tempfile::tempdir().unwrap();
        let path = script(&dir);
        // The note is of the script before it.
        let us = Identity::of(std::process::id().cast_signed()).unwrap();
        fs::write(dir.path().join("script"), format!("{us}\n/etc/init.d/000-other")).unwrap();
        assert_eq!(earlier(&path, &dir.path().join("script")), None);
    }
}
