// SPDX-License-Identifier: Apache-2.0
//! TLS for the services that are reached over the internet, with the roots
//! the platform trusts. The configuration is made at the first connection
//! that needs it.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::connect::Wire;

/// Where distributions keep all roots in one file; what the variable
/// `SSL_CERT_FILE` names goes before them.
const BUNDLES: &[&str] =
    &["/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/cert.pem", "/etc/pki/tls/certs/ca-bundle.crt"];
/// Where they keep them one by one.
const DIRECTORY: &str = "/etc/ssl/certs";

/// Why there can be no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No roots, so nobody could be trusted.
    #[error("no certificate authorities were found in {} or {DIRECTORY}", BUNDLES.join(", "))]
    NoRoots,
    /// The library refuses the configuration or the name.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

/// A connection of either kind.
pub enum Transport {
    /// As it is.
    Plain(Wire),
    /// Encrypted. Boxed: its state is much larger.
    Tls(Box<StreamOwned<ClientConnection, Wire>>),
}

impl Transport {
    /// The connection underneath.
    pub fn wire(&mut self) -> &mut Wire {
        match self {
            Self::Plain(wire) => wire,
            Self::Tls(stream) => &mut stream.sock,
        }
    }
}

impl Read for Transport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(wire) => wire.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Transport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(wire) => wire.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(wire) => wire.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// TLS 1.2 and 1.3 with the platform's roots.
///
/// # Errors
/// [`TlsError`].
pub fn config() -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    for bundle in named.iter().map(PathBuf::as_path).chain(BUNDLES.iter().map(Path::new)) {
        if roots.is_empty() {
            add(&mut roots, bundle);
        }
    }
    if roots.is_empty() {
        for entry in std::fs::read_dir(DIRECTORY).into_iter().flatten().flatten() {
            add(&mut roots, &entry.path());
        }
    }
    if roots.is_empty() {
        return Err(TlsError::NoRoots);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Setup(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Adds what can be read; a certificate the library does not take is one root
/// less and no more.
fn add(roots: &mut RootCertStore, path: &Path) {
    if let Ok(certificates) = CertificateDer::pem_file_iter(path) {
        for certificate in certificates.flatten() {
            let _ = roots.add(certificate);
        }
    }
}

/// Encrypts a connection to the server of this name or address.
///
/// # Errors
/// [`TlsError::Setup`]; the handshake itself happens with the first write.
pub fn wrap(config: &Arc<ClientConfig>, host: &str, wire: Wire) -> Result<Transport, TlsError> {
    let name = ServerName::try_from(host.to_owned()).map_err(|error| TlsError::Setup(error.to_string()))?;
    let connection = ClientConnection::new(Arc::clone(config), name)
        .map_err(|error| TlsError::Setup(error.to_string()))?;
    Ok(Transport::Tls(Box::new(StreamOwned::new(connection, wire))))
}
