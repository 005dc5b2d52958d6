// SPDX-License-Identifier: Apache-2.0
//! HTTP/1.1 (RFC 9112) as metadata services need it and no more: plain TCP to
//! numeric addresses of the link, seldom TLS; several requests at a time over
//! few connections; a source port below 1024; a deadline over the whole
//! exchange, whatever the server does; caps on everything it sends; no
//! redirects, no proxies, no cookies.

pub mod client;
pub mod connect;
pub mod deadline;
pub mod dns;
pub mod error;
pub mod message;
pub mod retry;
pub mod tls;
pub mod url;

pub use client::{Client, Settings};
pub use deadline::Deadline;
pub use error::HttpError;
pub use message::{Limits, Request, Response};
pub use url::Url;
