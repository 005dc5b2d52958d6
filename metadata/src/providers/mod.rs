// SPDX-License-Identifier: Apache-2.0
//! The providers: a folder and a row of [`TABLE`] each.

pub mod aws;
pub mod azure;
pub mod digitalocean;
pub mod equinixmetal;
pub mod gcp;
pub mod hetzner;
mod leaves;
pub mod metaldata;
pub mod nocloud;
pub mod openstack;
pub mod scaleway;
pub mod session;
pub mod vmware;
pub mod vultr;

use std::time::Duration;

use init::confine::Capability;

use crate::facts::Facts;
use crate::http::HttpError;
use crate::tree::Tree;
pub use session::Session;

/// A source of metadata.
pub trait Provider: Sync {
    /// Asks for everything. As soon as it is certain that this is the
    /// machine's provider, it must call [`Session::claim`]. What fails after
    /// that and is not essential is listed in [`Found::problems`].
    ///
    /// # Errors
    /// [`ProviderError`] if it is not there, or of no use.
    fn fetch(&self, session: &Session) -> Result<Found, ProviderError>;
}

/// Which of the three groups a provider belongs to. They are asked in this
/// order, whatever the order of the names on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// A service on the network.
    Network,
    /// The hypervisor, or a disk.
    Local,
}

/// How long most providers may take: a service that is not there by then will
/// not come, and the boot waits.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What speaks for a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// How much it says.
    pub weight: Weight,
    /// In words, for `--explain`.
    pub reason: String,
}

/// How much evidence says, the most first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// The kernel command line names the provider.
    Command,
    /// The machine's vendor is the provider.
    Vendor,
    /// A pattern that the provider's imitators share.
    Pattern,
    /// A disk that is made for it.
    Medium,
}

impl Evidence {
    /// The machine's vendor is the provider.
    pub fn vendor(reason: impl Into<String>) -> Option<Self> {
        Some(Self { weight: Weight::Vendor, reason: reason.into() })
    }

    /// A pattern that others share.
    pub fn pattern(reason: impl Into<String>) -> Option<Self> {
        Some(Self { weight: Weight::Pattern, reason: reason.into() })
    }

    /// A disk.
    pub fn medium(reason: impl Into<String>) -> Option<Self> {
        Some(Self { weight: Weight::Medium, reason: reason.into() })
    }
}

/// Everything about a provider that is known before it is asked.
pub struct Row {
    /// Its name on the command line.
    pub name: &'static str,
    /// Other names it answers to: those of `ds=` (cloud-init) and
    /// `ignition.platform.id=` (Ignition, afterburn) where they differ. Case
    /// does not count.
    pub aliases: &'static [&'static str],
    /// Its group.
    pub class: Class,
    /// Whether it may be asked on a mere guess. Not where a stranger could
    /// answer.
    pub guess: bool,
    /// Whether disks may carry its metadata.
    pub media: bool,
    /// How long it may take where it is known to be the one.
    pub patience: Duration,
    /// What speaks for it.
    pub evidence: fn(&Facts) -> Option<Evidence>,
    /// What it takes to ask it, beyond writing the files.
    pub capabilities: &'static [Capability],
    /// What has to be done before the program gives up its rights.
    pub prepare: fn(),
    /// It.
    pub provider: &'static dyn Provider,
}

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// Every provider. Where two could both be meant, by evidence of the same
/// weight or by an answer, the earlier is: imitators before those they imitate.
pub static TABLE: &[&Row] = &[
    &azure::ROW,
    &gcp::ROW,
    &hetzner::ROW,
    &digitalocean::ROW,
    &vultr::ROW,
    &scaleway::ROW,
    &openstack::ROW,
    &aws::ROW,
    &equinixmetal::ROW,
    &metaldata::ROW,
    &vmware::ROW,
    &nocloud::ROW,
];

/// The provider of this name.
pub fn by_name(name: &str) -> Option<&'static Row> {
    let is = |own: &str| own.eq_ignore_ascii_case(name);
    TABLE.iter().copied().find(|row| is(row.name) || row.aliases.iter().any(|alias| is(alias)))
}

/// What a provider has handed over.
#[derive(Default)]
pub struct Found {
    /// What goes into the file `provider`, and how log lines name it.
    pub provider: String,
    /// The other files.
    pub files: Tree,
    /// User data, exactly as it was given; `None` if there is none.
    pub userdata: Option<Vec<u8>>,
    /// What could not be had.
    pub problems: Vec<Problem>,
    /// What is left to do when the files are written, in this order.
    pub afterwards: Vec<Afterwards>,
}

/// Something to do at the end: tell the platform, set up the network.
pub struct Afterwards {
    /// What it is, for messages.
    pub what: &'static str,
    /// Whether the machine is not what its owner wanted without it.
    pub essential: bool,
    /// Does it. It is told how all before it went.
    pub act: Act,
}

/// How something is done at the end.
pub type Act = Box<dyn FnOnce(&Session, &Outcome) -> Result<(), ProviderError> + Send>;

/// How it went so far.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What is missing for the machine to be what its owner wanted: files of
    /// the provider, the user data, what was to be done at the end.
    pub failures: Vec<String>,
}

/// Something that could not be had.
#[derive(Debug)]
pub struct Problem {
    /// What went wrong, with the address.
    pub text: String,
    /// Whether the user data is missing for it: without that the machine is
    /// not what its owner wanted.
    pub essential: bool,
}

impl Found {
    /// Nothing yet, from the provider of this name.
    pub fn from_provider(provider: impl Into<String>) -> Self {
        Self { provider: provider.into(), ..Self::default() }
    }

    /// Adds a file if there is a value and it is not empty: one that the
    /// service does not have leaves no file.
    pub fn file(&mut self, name: &str, value: Option<impl Into<Vec<u8>>>) {
        if let Some(bytes) = value.map(Into::into).filter(|bytes| !bytes.is_empty()) {
            self.files.file(name, bytes);
        }
    }

    /// Adds the keys, if there are any, and says so if there are too many.
    pub fn keys<S: AsRef<str>>(&mut self, keys: impl IntoIterator<Item = S>) {
        let (bytes, more) = crate::keys::authorized_keys(keys);
        if let Some(bytes) = bytes {
            self.files.authorized_keys(bytes);
        }
        if more > 0 {
            self.problem(format!("{more} SSH keys are left out: more than {}", crate::keys::MAX_KEYS));
        }
    }

    /// Notes what could not be had.
    pub fn problem(&mut self, error: impl std::fmt::Display) {
        self.problems.push(Problem { text: error.to_string(), essential: false });
    }

    /// Takes user data, or notes why there is none.
    pub fn user_data(&mut self, result: Result<Option<Vec<u8>>, HttpError>) {
        match result {
            Ok(userdata) => self.userdata = userdata,
            Err(error) => self.missing_user_data(error),
        }
    }

    /// Adds something to do at the end.
    pub fn afterwards(
        &mut self,
        what: &'static str,
        essential: bool,
        act: impl FnOnce(&Session, &Outcome) -> Result<(), ProviderError> + Send + 'static,
    ) {
        self.afterwards.push(Afterwards { what, essential, act: Box::new(act) });
    }

    /// Notes why user data that there is could not be had.
    pub fn missing_user_data(&mut self, error: impl std::fmt::Display) {
        self.problems.push(Problem { text: format!("user data: {error}"), essential: true });
    }
}

/// Why a provider has handed over nothing.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The service.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// There is no sign of it.
    #[error("{0}")]
    Absent(String),
    /// A document of its that makes no sense.
    #[error("{what}: {reason}")]
    Document {
        /// Which.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A disk.
    #[error("{}: {source}", device.display())]
    Medium {
        /// Which.
        device: std::path::PathBuf,
        /// What is wrong with it.
        source: crate::volume::VolumeError,
    },
    /// A file.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The kernel's network.
    #[error(transparent)]
    Network(#[from] init::net::Error),
    /// Another provider has turned out to be the one.
    #[error("given up: another provider answered first")]
    Cancelled,
}

impl ProviderError {
    /// A document that makes no sense.
    pub fn document(what: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Self::Document { what: what.into(), reason: reason.to_string() }
    }

    /// Whether nobody was there: nothing to be surprised at after a guess.
    pub fn is_silence(&self) -> bool {
        match self {
            Self::Http(error) => error.is_silence() || matches!(error, HttpError::Cancelled),
            Self::Cancelled | Self::Absent(_) => true,
            _ => false,
        }
    }
}
