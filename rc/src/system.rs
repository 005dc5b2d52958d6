// SPDX-License-Identifier: Apache-2.0
//! What every part of rc works with: the console, the children, the engines.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use init::cmdline::Cmdline;
use init::console::Console;
use init::sys::Linux;
use init::{info, warning};
use tokio::time::sleep;

use crate::bundle::Stage;
use crate::engine::containerd::{Containerd, SOCKET};
use crate::engine::daemon::{Daemon, PROGRAM};
use crate::engine::direct::{self, Direct};
use crate::engine::runtime_config::{RUNTIME_CONFIG, RuntimeConfig};
use crate::engine::{Engine, Error, Id};
use crate::leftovers::Leftovers;
use crate::logs::Logger;
use crate::logs::settings::Limits;
use crate::paths;
use crate::progress::Progress;
use crate::reaper::Reaper;
use crate::shell::Shells;
use crate::timeline::{CONTAINERD, Timeline};

/// The namespace of the services, where `runtime.json` names no other.
pub const SERVICES: &str = "services.linuxkit";

/// How long after a broken connection the daemon's end is known at the latest.
const CONNECTION_LOST: Duration = Duration::from_millis(20);

/// The pause between two looks at an engine that has failed to come up.
pub const ENGINE_AWAY: Duration = Duration::from_secs(1);

/// Who runs the containers of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// containerd and its shims.
    Containerd,
    /// The OCI runtime's program alone.
    Direct,
}

impl Kind {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Direct => "the OCI runtime directly",
        }
    }
}

/// Which engine runs what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// onboot and onshutdown.
    pub stages: Option<Kind>,
    /// Services.
    pub services: Option<Kind>,
}

impl Choice {
    /// By `lkinit.engine=` and by what the image has; the second value says
    /// what could not be as it was asked for.
    pub fn new(wanted: Option<&str>, containerd: bool, runtime: bool) -> (Self, Option<String>) {
        let usual = match (containerd, runtime) {
            (true, _) => Some(Kind::Containerd),
            (false, true) => Some(Kind::Direct),
            (false, false) => None,
        };
        let both = |kind| Self { stages: kind, services: kind };
        let missing = |what: &str| {
            let used = match usual {
                Some(Kind::Containerd) => "using containerd",
                Some(Kind::Direct) => "using the OCI runtime directly",
                None => "no container can be run",
            };
            (both(usual), Some(format!("{what}; {used}")))
        };
        match wanted {
            None if usual.is_none() => missing("the image has neither containerd nor an OCI runtime"),
            None => (both(usual), None),
            Some("containerd") if containerd => (both(Some(Kind::Containerd)), None),
            Some("containerd") => missing("lkinit.engine=containerd: the image has no /usr/bin/containerd"),
            Some("direct") if runtime => (both(Some(Kind::Direct)), None),
            Some("direct-onboot") if runtime => (Self { stages: Some(Kind::Direct), services: usual }, None),
            Some(value @ ("direct" | "direct-onboot")) => {
                missing(&format!("lkinit.engine={value}: the image has no crun and no runc"))
            }
            Some(value) => {
                missing(&format!("lkinit.engine={value:?} is none of containerd, direct, direct-onboot"))
            }
        }
    }

    /// Whether containerd is started.
    pub fn starts_containerd(self) -> bool {
        self.uses(Kind::Containerd)
    }

    fn uses(self, kind: Kind) -> bool {
        self.stages == Some(kind) || self.services == Some(kind)
    }
}

/// The running system.
pub struct System {
    /// What a person sees.
    pub console: Arc<Console>,
    /// The kernel's command line.
    pub cmdline: Cmdline,
    /// The kernel.
    pub kernel: Linux,
    /// Our children.
    pub reaper: Reaper,
    /// What has been done.
    pub progress: Progress,
    /// Where the boot's time goes.
    pub timeline: Timeline,
    /// The image's containers: `/containers`.
    pub containers: PathBuf,
    /// What is remembered of each service: a folder below `/run/lkinit`.
    pub services: PathBuf,
    /// Containers that are still to be removed.
    pub leftovers: Leftovers,
    /// Where the boot stops for a person; nowhere but in rc.init.
    pub shells: Shells,
    /// Where the output of containers goes.
    pub logger: Logger,
    /// containerd, where it is used.
    pub daemon: Option<Daemon>,
    choice: Choice,
    containerd: Rc<Containerd>,
    direct: Option<Rc<Direct>>,
}

impl System {
    /// Finds out which engines there are, and starts containerd if one is it.
    pub fn start(
        console: Arc<Console>,
        cmdline: Cmdline,
        reaper: Reaper,
        progress: Progress,
        timeline: Timeline,
    ) -> Self {
        let logger = Logger::start(console.clone(), reaper.clone());
        let mut system = Self::new(console, cmdline, reaper, progress, logger, None);
        system.timeline = timeline;
        let console = &system.console;
        if system.choice.uses(Kind::Containerd) {
            let (config, problem) = RuntimeConfig::load(Path::new(RUNTIME_CONFIG));
            if let Some(problem) = problem {
                warning!(console, "{problem}");
            }
            let debug = debug_wanted(&system.cmdline);
            let output = (system.logger.clone(), Limits::of_machine(&system.cmdline));
            let daemon = Daemon::start(console.clone(), system.reaper.clone(), output, config, debug);
            note_readiness(daemon.clone(), system.timeline.clone());
            system.daemon = Some(daemon);
        }
        if let Some(direct) = system.direct.as_ref().filter(|_| system.choice.uses(Kind::Direct)) {
            let both = system.choice.services == Some(Kind::Direct);
            let what = if both { "containers" } else { "onboot" };
            info!(console, "{what}: by {} directly", direct.name());
        }
        system
    }

    /// The engines of a system that somebody else keeps up; `socket` is
    /// containerd's, where it is not the usual one.
    pub fn attach(
        console: Arc<Console>,
        cmdline: Cmdline,
        reaper: Reaper,
        progress: Progress,
        socket: Option<&Path>,
    ) -> Self {
        let logger = Logger::attach(console.clone());
        Self::new(console, cmdline, reaper, progress, logger, socket)
    }

    fn new(
        console: Arc<Console>,
        cmdline: Cmdline,
        reaper: Reaper,
        progress: Progress,
        logger: Logger,
        socket: Option<&Path>,
    ) -> Self {
        let runtime = direct::find_runtime();
        let (choice, problem) =
            Choice::new(cmdline.get("lkinit.engine"), Path::new(PROGRAM).is_file(), runtime.is_some());
        if let Some(problem) = problem {
            warning!(console, "{problem}");
        }
        let debug = debug_wanted(&cmdline);
        let direct =
            runtime.map(|path| Rc::new(Direct::new(path, Path::new(direct::STATE), debug, reaper.clone())));
        let containerd = Containerd::new(socket.unwrap_or(Path::new(SOCKET)), direct::find_crun())
            .with_reaper(reaper.clone());
        Self {
            console,
            cmdline,
            kernel: Linux,
            reaper,
            progress,
            timeline: Timeline::forgetful(),
            containers: PathBuf::from(paths::CONTAINERS),
            services: PathBuf::from(paths::SERVICES),
            leftovers: Leftovers::default(),
            shells: Shells::default(),
            logger,
            daemon: None,
            choice,
            containerd: Rc::new(containerd),
            direct,
        }
    }

    /// The engine of a stage.
    ///
    /// # Errors
    /// The image has none.
    pub fn engine(&self, stage: Stage) -> Result<Rc<dyn Engine>, Error> {
        let kind = match stage {
            Stage::Services => self.choice.services,
            Stage::Onboot | Stage::Onshutdown => self.choice.stages,
        };
        match (kind, &self.direct) {
            (Some(Kind::Containerd), _) => Ok(self.containerd.clone()),
            (Some(Kind::Direct), Some(direct)) => Ok(direct.clone()),
            _ => Err(Error::Unavailable {
                engine: "no engine",
                reason: "the image has neither containerd nor an OCI runtime".to_owned(),
            }),
        }
    }

    /// Waits until the engine of a stage answers.
    ///
    /// # Errors
    /// It has failed several times in a row.
    pub async fn engine_ready(&self, stage: Stage) -> Result<Rc<dyn Engine>, Error> {
        let engine = self.engine(stage)?;
        if let Some(daemon) = self.daemon.as_ref().filter(|_| engine.name() == self.containerd.name()) {
            daemon.ready().await?;
            self.timeline.join(CONTAINERD);
        }
        Ok(engine)
    }

    /// Waits until the engine of a stage answers again, after a connection to
    /// it has broken.
    ///
    /// # Errors
    /// As [`System::engine_ready`].
    pub async fn engine_back(&self, stage: Stage) -> Result<Rc<dyn Engine>, Error> {
        // The end of the daemon is noticed a moment after its connections break.
        sleep(CONNECTION_LOST).await;
        self.engine_ready(stage).await
    }

    /// Has a container removed that could not be removed in time, or whose
    /// start was given up: as soon as the engine does so. None of its name is
    /// made before that.
    pub fn remove_later(&self, engine: Rc<dyn Engine>, id: Id) {
        self.leftovers.add(id.clone());
        let (leftovers, console) = (self.leftovers.clone(), self.console.clone());
        let daemon = self.daemon.clone().filter(|_| engine.name() == self.containerd.name());
        tokio::task::spawn_local(async move {
            loop {
                match leftovers.clear(engine.as_ref(), &id).await {
                    Ok(()) => return,
                    Err(Error::Unavailable { .. }) => {
                        sleep(ENGINE_AWAY).await;
                        if let Some(daemon) = &daemon {
                            let _ = daemon.ready().await;
                        }
                    }
                    // It is tried again before the next start.
                    Err(error) => return warning!(console, "cannot remove what is left of {id}: {error}"),
                }
            }
        });
    }

    /// The namespace of a stage's containers.
    pub fn namespace(stage: Stage) -> &'static str {
        match stage {
            Stage::Services => SERVICES,
            Stage::Onboot => "onboot.linuxkit",
            Stage::Onshutdown => "onshutdown.linuxkit",
        }
    }
}

/// Notes when containerd answers for the first time.
fn note_readiness(daemon: Daemon, timeline: Timeline) {
    timeline.follow(CONTAINERD);
    timeline.begin(CONTAINERD, "start");
    tokio::task::spawn_local(async move {
        match daemon.ready().await {
            Ok(()) => timeline.end(CONTAINERD, "start"),
            Err(error) => timeline.fail(CONTAINERD, "start", error),
        }
    });
}

/// Whether engines are to say more than usual.
fn debug_wanted(cmdline: &Cmdline) -> bool {
    cmdline.flag("linuxkit.runc_debug") == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(wanted: Option<&str>, containerd: bool, runtime: bool) -> (Option<Kind>, Option<Kind>, bool) {
        let (choice, problem) = Choice::new(wanted, containerd, runtime);
        (choice.stages, choice.services, problem.is_some())
    }

    #[test]
    fn the_engine_is_what_the_image_has_and_the_user_asks_for() {
        use Kind::{Containerd, Direct};
        assert_eq!(choose(None, true, true), (Some(Containerd), Some(Containerd), false));
        assert_eq!(choose(None, false, true), (Some(Direct), Some(Direct), false));
        assert_eq!(choose(None, false, false), (None, None, true));
        assert_eq!(choose(Some("direct"), true, true), (Some(Direct), Some(Direct), false));
        assert_eq!(choose(Some("direct-onboot"), true, true), (Some(Direct), Some(Containerd), false));
        assert_eq!(choose(Some("direct"), true, false), (Some(Containerd), Some(Containerd), true));
        assert_eq!(choose(Some("containerd"), false, true), (Some(Direct), Some(Direct), true));
        assert_eq!(choose(Some("docker"), true, true), (Some(Containerd), Some(Containerd), true));
    }
}
