// SPDX-License-Identifier: Apache-2.0
//! Why there is no answer, in one line with the address.

use std::io;

use super::dns::DnsError;
use super::message::MessageError;
use super::retry::Retry;
use super::tls::TlsError;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No connection.
    #[error("{url}: cannot connect: {source}")]
    Connect {
        /// The service.
        url: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The service's name has no address.
    #[error("{url}: cannot resolve the name: {source}")]
    Dns {
        /// The service.
        url: String,
        /// The resolver's answer.
        source: DnsError,
    },
    /// No TLS.
    #[error("{url}: {source}")]
    Tls {
        /// The service.
        url: String,
        /// What is missing.
        source: TlsError,
    },
    /// No answer, or not one in HTTP.
    #[error("{method} {url}: {source}")]
    Message {
        /// The request's method.
        method: &'static str,
        /// What was asked for.
        url: String,
        /// What went wrong.
        source: MessageError,
    },
    /// An answer that says no.
    #[error("{method} {url}: status {status}{reason}")]
    Status {
        /// The request's method.
        method: &'static str,
        /// What was asked for.
        url: String,
        /// The status code.
        status: u16,
        /// The beginning of what the server says about it.
        reason: String,
    },
    /// An answer that is not what was asked for.
    #[error("{url}: {reason}")]
    Unexpected {
        /// What was asked for.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Another provider has turned out to be the one.
    #[error("given up: another provider answered first")]
    Cancelled,
}

impl HttpError {
    /// The status code, where the server gave one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the connection or the server's silence is to blame, and not an
    /// answer.
    pub fn is_silence(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Dns { .. } => true,
            // A certificate that is not to be trusted is an answer.
            Self::Message { source: MessageError::Io(error), .. } => {
                error.kind() != io::ErrorKind::InvalidData
            }
            Self::Message { source, .. } => matches!(source, MessageError::Closed | MessageError::Truncated),
            _ => false,
        }
    }

    /// Whether trying again may help.
    pub(super) fn may_pass(&self, retry: Retry) -> bool {
        use io::ErrorKind::{AddrNotAvailable, HostUnreachable, NetworkDown, NetworkUnreachable};
        match self {
            Self::Connect { source, .. } => match source.kind() {
                AddrNotAvailable | HostUnreachable | NetworkDown | NetworkUnreachable => retry.unreachable,
                _ => retry.refused,
            },
            Self::Dns { source: DnsError::NoServer, .. } => retry.unreachable,
            Self::Dns { .. } => retry.refused,
            _ => self.is_silence() && retry.broken,
        }
    }
}

/// The beginning of a server's explanation, as the end of a message.
pub(super) fn excerpt(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let line: String = line.chars().filter(|c| !c.is_control()).take(120).collect();
    if line.is_empty() { line } else { format!(": {line}") }
}
