// SPDX-License-Identifier: Apache-2.0
//! The command line.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::facts::Roots;
use crate::http::Url;
use crate::plan::Named;
use crate::providers::by_name;

/// Where files go when nobody says otherwise.
pub const CONFIG_DIR: &str = "/run/config";

/// What `--help` prints.
pub const USAGE: &str = "\
usage: metadata [OPTION]... [PROVIDER]... [file=PATH]...

Finds the platform this machine runs on, asks its metadata service and writes
what it says beneath /run/config. PROVIDER limits the choice and may be:
  aws azure cdrom digitalocean equinixmetal (or packet) gcp hetzner metaldata
  openstack scaleway vmware vultr

  -v, --verbose           more lines, each with its time and level
  --explain               print what would be asked and why, and end
  --config-dir DIR        write beneath DIR [/run/config]
  --no-hostname           leave the kernel's host name alone
  --no-network            leave links, addresses and routes alone (equinixmetal)
  --timeout TIME          end by then: seconds, or with ms, s or m
                          [2s for a guess, 30s for a platform that is known]
  --max-userdata BYTES    the most user data that is taken [4194304]
  --metadata-url PROVIDER=URL
                          ask there; also wireserver=URL for Azure's second service
  --sysfs DIR, --cmdline FILE, --dev DIR, --leases DIR
                          look there instead of /sys, /proc/cmdline, /dev, and
                          where DHCP clients keep their leases
";

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Options {
    /// `-v`.
    pub verbose: bool,
    /// `--explain`.
    pub explain: bool,
    /// `--config-dir`.
    pub config_dir: PathBuf,
    /// The opposite of `--no-hostname`.
    pub hostname: bool,
    /// The opposite of `--no-network`.
    pub network: bool,
    /// `--timeout`.
    pub timeout: Option<Duration>,
    /// `--max-userdata`, in bytes.
    pub max_userdata: usize,
    /// `--metadata-url`, by the provider's own name.
    pub addresses: HashMap<String, Url>,
    /// `--sysfs`, `--cmdline`, `--dev`.
    pub roots: Roots,
    /// `--leases`.
    pub leases: Option<PathBuf>,
    /// The providers and files, in order.
    pub named: Named,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            verbose: false,
            explain: false,
            config_dir: PathBuf::from(CONFIG_DIR),
            hostname: true,
            network: true,
            timeout: None,
            max_userdata: 4 << 20,
            addresses: HashMap::new(),
            roots: Roots::default(),
            leases: None,
            named: Named::default(),
        }
    }
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    /// The usual.
    Run(Box<Options>),
    /// `--help`.
    Help,
}

/// Why the command line cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// A name of no provider. LinuxKit's tool says it in these words.
    #[error("Unrecognised metadata provider: {0}")]
    Provider(String),
    /// Anything else.
    #[error("{0}\nmetadata --help lists the options")]
    Option(String),
}

impl UsageError {
    /// The exit status: as LinuxKit's tool, 1 for a name and 2 for an option.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Provider(_) => 1,
            Self::Option(_) => 2,
        }
    }
}

impl From<lexopt::Error> for UsageError {
    fn from(error: lexopt::Error) -> Self {
        Self::Option(error.to_string())
    }
}

/// Reads the arguments, without the program's name. One dash does for a long
/// option, as it does in Go's programs.
///
/// # Errors
/// [`UsageError`].
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    use lexopt::prelude::{Long, Short, Value, ValueExt as _};
    let mut options = Options::default();
    let mut parser = lexopt::Parser::from_args(arguments.into_iter().map(two_dashes));
    while let Some(argument) = parser.next()? {
        match argument {
            Short('v') | Long("verbose" | "v") => options.verbose = true,
            Short('h') | Long("help" | "h") => return Ok(Command::Help),
            Long("explain") => options.explain = true,
            Long("no-hostname") => options.hostname = false,
            Long("no-network") => options.network = false,
            Long("config-dir") => options.config_dir = PathBuf::from(parser.value()?),
            Long("sysfs") => options.roots.sysfs = PathBuf::from(parser.value()?),
            Long("cmdline") => options.roots.cmdline = PathBuf::from(parser.value()?),
            Long("dev") => options.roots.dev = PathBuf::from(parser.value()?),
            Long("leases") => options.leases = Some(PathBuf::from(parser.value()?)),
            Long("max-userdata") => options.max_userdata = parser.value()?.parse()?,
            Long("timeout") => {
                let text = parser.value()?.string()?;
                let bad = || UsageError::Option(format!("--timeout: {text:?} is not a length of time"));
                options.timeout = Some(duration(&text).ok_or_else(bad)?);
            }
            Long("metadata-url") => {
                let text = parser.value()?.string()?;
                let (name, url) = address(&text)?;
                options.addresses.insert(name, url);
            }
            Value(word) => {
                let word = word.string()?;
                match word.strip_prefix("file=") {
                    Some(path) => options.named.files.push(PathBuf::from(path)),
                    None => {
                        let row = by_name(&word).ok_or(UsageError::Provider(word))?;
                        if !options.named.rows.contains(&row) {
                            options.named.rows.push(row);
                        }
                    }
                }
            }
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::Run(Box::new(options)))
}

fn two_dashes(argument: OsString) -> OsString {
    match argument.to_str() {
        Some(text) if text.len() > 2 && text.starts_with('-') && !text.starts_with("--") => {
            format!("-{text}").into()
        }
        _ => argument,
    }
}

/// `NAME=URL`. The name is a provider's, or `wireserver`.
fn address(text: &str) -> Result<(String, Url), UsageError> {
    let error = |reason: String| UsageError::Option(format!("--metadata-url: {reason}"));
    let (name, url) = text.split_once('=').ok_or_else(|| error(format!("{text:?} is not PROVIDER=URL")))?;
    let name = match by_name(name) {
        Some(row) => row.name,
        None if name == "wireserver" => name,
        None => return Err(error(format!("{name:?} is not a provider"))),
    };
    let mut url: Url = url.parse().map_err(|reason| error(format!("{reason}")))?;
    // `http://host/` and `http://host` are the same service.
    url.path.truncate(url.path.trim_end_matches('/').len());
    Ok((name.to_owned(), url))
}

/// `2`, `0.5`, `500ms`, `2s`, `1m`.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..)? {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        _ => return None,
    };
    let number: f64 = digits.parse().ok()?;
    Duration::try_from_secs_f64(number * unit).ok().filter(|time| !time.is_zero())
}
