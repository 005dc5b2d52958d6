// SPDX-License-Identifier: Apache-2.0
//! Requests as bytes and responses from bytes.

use std::io::{self, ErrorKind, Read};
use std::time::Duration;

/// Most header fields of one response.
const MAX_FIELDS: usize = 64;
/// Interim responses (1xx) that are read over before the real one.
const MAX_INTERIM: usize = 4;
/// Longest line with the size of a chunk, extensions included.
const MAX_CHUNK_LINE: usize = 256;

/// What a server may send.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Status line and header fields, in bytes.
    pub head: usize,
    /// The body, in bytes.
    pub body: usize,
}

/// 16 KiB and 1 MiB: more than any metadata document has.
impl Default for Limits {
    fn default() -> Self {
        Self { head: 16 << 10, body: 1 << 20 }
    }
}

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// `GET`, `PUT`, `POST`, `PATCH`.
    pub method: &'static str,
    /// Path and query, with `/` in front.
    pub path: String,
    /// Further header fields.
    pub fields: Vec<(&'static str, String)>,
    /// What is sent along.
    pub body: Option<Vec<u8>>,
    /// Another limit than the usual one for the answer's body, in bytes.
    pub body_limit: Option<usize>,
    /// Another limit than the usual one for the time until the answer is there.
    pub patience: Option<Duration>,
}

impl Request {
    /// A request for something.
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: "GET", path: path.into(), ..Self::default() }
    }

    /// A request that sends something, of this media type.
    pub fn send(method: &'static str, path: impl Into<String>, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { method, path: path.into(), body: Some(body.into()), ..Self::default() }
            .field("Content-Type", kind)
    }

    /// Adds a header field.
    #[must_use]
    pub fn field(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// Takes an answer of up to this many bytes.
    #[must_use]
    pub fn up_to(mut self, bytes: usize) -> Self {
        self.body_limit = Some(bytes);
        self
    }

    /// Waits this long for the answer.
    #[must_use]
    pub fn within(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// The bytes of the request.
    ///
    /// # Errors
    /// `InvalidInput` if the path or a value holds something that would end
    /// its line.
    pub fn encode(&self, path: &str, host: &str, more: &[(&'static str, String)]) -> io::Result<Vec<u8>> {
        let sound = |text: &str| text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        let path_is_sound = path.starts_with('/') && sound(path) && !path.contains(' ');
        let fields = || more.iter().chain(&self.fields);
        if !path_is_sound || !fields().all(|(_, value)| sound(value)) {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                "the request would be split by what it holds",
            ));
        }
        let mut head = format!("{} {path} HTTP/1.1\r\nHost: {host}\r\n", self.method);
        head += concat!("User-Agent: lkinit-metadata/", env!("CARGO_PKG_VERSION"), "\r\n");
        head += "Accept: */*\r\nAccept-Encoding: identity\r\n";
        for (name, value) in fields() {
            head += &format!("{name}: {value}\r\n");
        }
        if self.body.is_some() || self.method != "GET" {
            head += &format!("Content-Length: {}\r\n", self.body.as_ref().map_or(0, Vec::len));
        }
        head += "\r\n";
        let mut bytes = head.into_bytes();
        bytes.extend(self.body.iter().flatten());
        Ok(bytes)
    }
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Header fields, names in lower case.
    pub fields: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Whether the connection takes another request.
    pub keep_alive: bool,
}

impl Response {
    /// The first value of a header field; `name` in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }
}

/// Why a response is none.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// The connection.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The server hung up before the first byte.
    #[error("the connection was closed before an answer")]
    Closed,
    /// The server hung up inside the answer.
    #[error("the connection was closed in the middle of the answer")]
    Truncated,
    /// More than [`Limits`] allows.
    #[error("the {what} has more than {limit} bytes")]
    TooLarge {
        /// Head or body.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// Not HTTP.
    #[error("the answer is not HTTP: {0}")]
    Malformed(&'static str),
}

/// Bytes of a connection, of which some may belong to the next response.
pub struct Reader<R> {
    inner: R,
    buffer: Vec<u8>,
    /// Up to where the buffer has been read. What is before goes when more
    /// comes: a body of many small chunks would be moved with each of them.
    at: usize,
}

impl<R: Read> Reader<R> {
    /// Reads from `inner`.
    pub fn new(inner: R) -> Self {
        Self { inner, buffer: Vec::new(), at: 0 }
    }

    /// The connection itself, for writing.
    pub fn inner_mut(&mut self) -> &mut R {
        &mut self.inner
    }

    /// Whether a byte has come that no response claimed.
    pub fn has_leftover(&self) -> bool {
        !self.rest().is_empty()
    }

    /// What has come and has not been read.
    fn rest(&self) -> &[u8] {
        self.buffer.get(self.at..).unwrap_or_default()
    }

    /// Reads one response to a request of this method.
    ///
    /// # Errors
    /// [`MessageError`]; the connection is then of no further use.
    pub fn response(&mut self, method: &str, limits: Limits) -> Result<Response, MessageError> {
        for _ in 0..=MAX_INTERIM {
            let mut response = self.head(limits)?;
            if response.status == 101 {
                return Err(MessageError::Malformed("it changes the protocol"));
            }
            if response.status >= 200 {
                self.body(method, &mut response, limits)?;
                return Ok(response);
            }
        }
        Err(MessageError::Malformed("too many interim answers"))
    }

    fn head(&mut self, limits: Limits) -> Result<Response, MessageError> {
        loop {
            if let Some((response, length)) = parse_head(self.rest())? {
                if length > limits.head {
                    return Err(MessageError::TooLarge { what: "head", limit: limits.head });
                }
                self.at += length;
                return Ok(response);
            }
            if self.rest().len() > limits.head {
                return Err(MessageError::TooLarge { what: "head", limit: limits.head });
            }
            let empty = self.rest().is_empty();
            if self.fill()? == 0 {
                return Err(if empty { MessageError::Closed } else { MessageError::Truncated });
            }
        }
    }

    /// Reads the body by the rules of RFC 9112, 6.3.
    fn body(&mut self, method: &str, response: &mut Response, limits: Limits) -> Result<(), MessageError> {
        if method == "HEAD" || matches!(response.status, 204 | 304) {
            return Ok(());
        }
        let encoding: Vec<&str> = values(&response.fields, "transfer-encoding").collect();
        match encoding.as_slice() {
            [] => {}
            [only] if only.eq_ignore_ascii_case("chunked") => {
                response.body = self.chunked(limits)?;
                return Ok(());
            }
            _ => return Err(MessageError::Malformed("a transfer encoding that was not asked for")),
        }
        let mut lengths = values(&response.fields, "content-length").map(|text| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u64>().ok().filter(|_| digits)
        });
        match (lengths.next(), lengths.next()) {
            (None, _) => {
                response.keep_alive = false;
                while self.rest().len() <= limits.body && self.fill()? > 0 {}
                response.body = self.take(self.rest().len(), limits)?;
            }
            (Some(Some(length)), None) => {
                response.body = self.take(usize::try_from(length).unwrap_or(usize::MAX), limits)?;
            }
            _ => return Err(MessageError::Malformed("its length is not one number")),
        }
        Ok(())
    }

    fn take(&mut self, length: usize, limits: Limits) -> Result<Vec<u8>, MessageError> {
        if length > limits.body {
            return Err(MessageError::TooLarge { what: "body", limit: limits.body });
        }
        while self.rest().len() < length {
            if self.fill()? == 0 {
                return Err(MessageError::Truncated);
            }
        }
        if self.at == 0 {
            let rest = self.buffer.split_off(length);
            return Ok(std::mem::replace(&mut self.buffer, rest));
        }
        let taken = self.rest().get(..length).unwrap_or_default().to_vec();
        self.at += length;
        Ok(taken)
    }

    fn chunked(&mut self, limits: Limits) -> Result<Vec<u8>, MessageError> {
        let mut body = Vec::new();
        loop {
            let (length, size) = loop {
                match httparse::parse_chunk_size(self.rest()) {
                    // However much of it comes at once.
                    Ok(httparse::Status::Complete(found)) if found.0 <= MAX_CHUNK_LINE => break found,
                    Ok(httparse::Status::Partial) if self.rest().len() <= MAX_CHUNK_LINE => {}
                    _ => return Err(MessageError::Malformed("a chunk without its size")),
                }
                if self.fill()? == 0 {
                    return Err(MessageError::Truncated);
                }
            };
            self.at += length;
            if size == 0 {
                self.trailer(limits)?;
                return Ok(body);
            }
            let left = Limits { body: limits.body.saturating_sub(body.len()), ..limits };
            let chunk = self.take(usize::try_from(size).unwrap_or(usize::MAX), left);
            let over = MessageError::TooLarge { what: "body", limit: limits.body };
            body.extend(chunk.map_err(|error| {
                if matches!(error, MessageError::TooLarge { .. }) { over } else { error }
            })?);
            if self.take(2, limits)? != b"\r\n" {
                return Err(MessageError::Malformed("a chunk longer than its size"));
            }
        }
    }

    /// Header fields after the last chunk, which nobody needs.
    fn trailer(&mut self, limits: Limits) -> Result<(), MessageError> {
        let mut length = 0;
        loop {
            let line = loop {
                let end = self.rest().iter().position(|byte| *byte == b'\n');
                if let Some(end) = end.filter(|end| *end < limits.head) {
                    break self.take(end + 1, limits)?;
                }
                if end.is_some() || self.rest().len() > limits.head {
                    return Err(MessageError::TooLarge { what: "head", limit: limits.head });
                }
                if self.fill()? == 0 {
                    return Err(MessageError::Truncated);
                }
            };
            length += line.len();
            if line == b"\r\n" || line == b"\n" {
                return Ok(());
            }
            if length > limits.head {
                return Err(MessageError::TooLarge { what: "head", limit: limits.head });
            }
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        self.buffer.drain(..self.at.min(self.buffer.len()));
        self.at = 0;
        let mut chunk = [0; 4096];
        loop {
            match self.inner.read(&mut chunk) {
                Ok(count) => {
                    self.buffer.extend_from_slice(chunk.get(..count).unwrap_or_default());
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The comma-separated values of a field.
fn values<'a>(fields: &'a [(String, String)], name: &'a str) -> impl Iterator<Item = &'a str> {
    fields.iter().filter(move |(own, _)| own == name).flat_map(|(_, value)| value.split(',')).map(str::trim)
}

/// The head and its length in bytes; `None` if it is not complete.
fn parse_head(bytes: &[u8]) -> Result<Option<(Response, usize)>, MessageError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut head = httparse::Response::new(&mut fields);
    let length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(MessageError::Malformed("too many header fields"));
        }
        Err(_) => return Err(MessageError::Malformed("its head cannot be read")),
    };
    let fields: Vec<(String, String)> = head
        .headers
        .iter()
        .map(|field| {
            (field.name.to_ascii_lowercase(), String::from_utf8_lossy(field.value).trim().to_owned())
        })
        .collect();
    let connection = |word: &str| values(&fields, "connection").any(|own| own.eq_ignore_ascii_case(word));
    let keep_alive = if head.version == Some(1) { !connection("close") } else { connection("keep-alive") };
    let status = head.code.unwrap_or_default();
    Ok(Some((Response { status, fields, body: Vec::new(), keep_alive }, length)))
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
