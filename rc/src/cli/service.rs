// SPDX-License-Identifier: Apache-2.0
//! `service`: the command of LinuxKit's name, and the links of its stages.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::boot::initd::OwnStage;
use crate::bundle::{Bundle, Stage};
use crate::cli::local;
use crate::control::{Answer, Client, Failure, Request};
use crate::engine::containerd::SOCKET;
use crate::paths;

const USAGE: &str = "\
usage: service [OPTIONS] start|stop|restart NAME
       service [OPTIONS] system-init
       service [OPTIONS] status

  start NAME     start a service, and wait until it is up
  stop NAME      stop a service, and wait until it is down
  restart NAME   stop a service if it is up, and start it
  system-init    start every service that is not up
  status         list the services

options (with one dash or two):
  -q             say nothing but errors
  -v             say more
  -path DIR      the folder of the services' bundles (/containers/services)
  -sock PATH     containerd's socket, where no supervisor answers
  -containerd-namespace NS
                 containerd's namespace, where no supervisor answers
  -dump-spec FILE
                 write the service's OCI configuration to FILE
";

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) quiet: bool,
    pub(super) verbose: bool,
    pub(super) namespace: Option<String>,
    pub(super) socket: PathBuf,
    pub(super) path: PathBuf,
    pub(super) dump_spec: Option<PathBuf>,
    pub(super) words: Vec<String>,
}

/// Reads flags and words in any order, as Go's flag package lets users write
/// the flags of a subcommand behind it: `service start -sock S NAME`.
fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Options, String> {
    let mut options = Options {
        quiet: false,
        verbose: false,
        namespace: None,
        socket: SOCKET.into(),
        path: Path::new(paths::CONTAINERS).join(Stage::Services.folder()),
        dump_spec: None,
        words: Vec::new(),
    };
    let mut arguments = arguments.map(|word| word.to_string_lossy().into_owned());
    while let Some(word) = arguments.next() {
        let Some(flag) = word.strip_prefix('-').map(|flag| flag.strip_prefix('-').unwrap_or(flag)) else {
            options.words.push(word);
            continue;
        };
        let (flag, inline) = match flag.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (flag, None),
        };
        let mut value = || {
            let value = inline.clone().or_else(|| arguments.next());
            value.ok_or_else(|| format!("-{flag} wants a value"))
        };
        match flag {
            "q" => options.quiet = true,
            "v" => options.verbose = true,
            "containerd-namespace" => options.namespace = Some(value()?),
            "sock" => options.socket = value()?.into(),
            "path" => options.path = value()?.into(),
            "dump-spec" => options.dump_spec = Some(value()?.into()),
            "h" | "help" => options.words.insert(0, "help".to_owned()),
            _ => return Err(format!("unknown flag {word:?}")),
        }
    }
    Ok(options)
}

/// `service`, or a link whose name says the stage.
pub(super) fn main(name: &str, arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let options = match parse(arguments) {
        Ok(options) => options,
        Err(problem) => {
            eprint!("service: {problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let result = match OwnStage::of_link(name) {
        Some(stage) => stage_link(stage),
        None => command(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Problem::Usage(problem)) => {
            eprint!("service: {problem}\n{USAGE}");
            ExitCode::from(2)
        }
        Err(Problem::Failed(problem)) => {
            eprintln!("service: {problem}");
            ExitCode::FAILURE
        }
    }
}

enum Problem {
    Usage(String),
    Failed(String),
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure.to_string())
    }
}

fn stage_link(stage: OwnStage) -> Result<(), Problem> {
    match stage {
        OwnStage::Services => match ask(&Request::StartAll)? {
            Some(_) => Ok(()),
            None => Err(Problem::Failed("no supervisor: services are started by rc.init".to_owned())),
        },
        stage => local::stage(stage).map_err(Problem::Failed),
    }
}

fn command(options: &Options) -> Result<(), Problem> {
    let mut words = options.words.iter().map(String::as_str);
    let verb = words.next().unwrap_or_default();
    let mut name =
        || words.next().map(str::to_owned).ok_or(Problem::Usage(format!("{verb}: which service?")));
    let request = match verb {
        "help" => {
            print!("{USAGE}");
            return Ok(());
        }
        "start" => Request::Start { name: name()? },
        "stop" => Request::Stop { name: name()? },
        "restart" => Request::Restart { name: name()? },
        "system-init" => Request::StartAll,
        "status" | "list" => Request::Status,
        "" => return Err(Problem::Usage("what is to be done?".to_owned())),
        other => return Err(Problem::Usage(format!("unknown command {other:?}"))),
    };
    if let (Some(file), Request::Start { name }) = (&options.dump_spec, &request) {
        dump_spec(&options.path.join(name), file)?;
    }
    let answer = match ask(&request)? {
        Some(answer) => answer,
        None => local::request(options, &request).map_err(Problem::Failed)?,
    };
    match answer {
        Answer::Done => {
            if options.verbose && !options.quiet {
                println!("service: {verb}: done");
            }
            Ok(())
        }
        Answer::Failed { reason } => Err(Problem::Failed(format!("{verb}: {reason}"))),
        Answer::Services { services, containerd } => {
            println!(
                "{:<24} {:<10} {:>8} {:>8} {:>8}  LAST EXIT",
                "SERVICE", "STATE", "PID", "UPTIME", "RESTARTS"
            );
            for status in services {
                let number = |value: Option<u64>| value.map_or("-".to_owned(), |value| value.to_string());
                println!(
                    "{:<24} {:<10} {:>8} {:>8} {:>8}  {}",
                    status.name,
                    status.state,
                    number(status.pid.map(u64::from)),
                    status.uptime.map_or("-".to_owned(), |seconds| format!("{seconds}s")),
                    status.restarts,
                    number(status.last_exit.map(u64::from)),
                );
            }
            if let Some(containerd) = containerd {
                println!("containerd: {containerd}");
            }
            Ok(())
        }
    }
}

/// Asks the supervisor; `None` where there is none.
fn ask(request: &Request) -> Result<Option<Answer>, Failure> {
    match Client::connect(Path::new(paths::CONTROL)) {
        Ok(mut client) => client.ask(request, None).map(Some),
        Err(Failure::NoSupervisor { .. }) => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn dump_spec(bundle: &Path, file: &Path) -> Result<(), Problem> {
    let bundle = Bundle::load(bundle, Stage::Services).map_err(|error| Problem::Failed(error.to_string()))?;
    let text = format!("{:#}\n", bundle.spec());
    std::fs::write(file, text)
        .map_err(|error| Problem::Failed(format!("cannot write {}: {error}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Options, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn flags_stand_anywhere_with_one_dash_or_two() {
        let options = words("-q start --sock /s -path=/p getty").unwrap();
        assert!(options.quiet);
        assert_eq!(options.words, ["start", "getty"]);
        assert_eq!((options.socket, options.path), ("/s".into(), "/p".into()));
        assert_eq!(words("-containerd-namespace x stop y").unwrap().namespace.as_deref(), Some("x"));
    }

    #[test]
    fn what_is_not_understood_is_said() {
        assert_eq!(words("start -sock").unwrap_err(), "-sock wants a value");
        assert_eq!(words("--fast start x").unwrap_err(), "unknown flag \"--fast\"");
    }
}
