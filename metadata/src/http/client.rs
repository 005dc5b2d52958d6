// SPDX-License-Identifier: Apache-2.0
//! Asking a service: connections that are kept and used again, several
//! requests at a time, asking again where that may help.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, Write as _};
use std::net::{SocketAddr, SocketAddrV6};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::connect::{LocalPort, connect};
use super::deadline::{Budget, Deadline};
use super::dns::Resolver;
use super::error::{HttpError, excerpt};
use super::message::{Limits, MessageError, Reader, Request, Response};
use super::retry::{Retry, pause, retry_after};
use super::tls::{self, Transport};
use super::url::{Host, Url};
use crate::news::News;

/// Longest time for a connection, and for one request and its answer.
const CONNECT: Duration = Duration::from_secs(5);
const EXCHANGE: Duration = Duration::from_secs(10);
/// With less than this left it is not worth asking again.
const TOO_LATE: Duration = Duration::from_millis(20);
/// Stack of a thread that asks: TLS is the deepest thing it does.
const STACK: usize = 256 << 10;

/// How a service is asked.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The same service at several addresses. The first that answers is used
    /// from then on.
    pub endpoints: Vec<Url>,
    /// Header fields of every request.
    pub fields: Vec<(&'static str, String)>,
    /// What an answer may have.
    pub limits: Limits,
    /// When a request is sent again.
    pub retry: Retry,
    /// Where connections come from.
    pub local_port: LocalPort,
}

struct Connection {
    endpoint: usize,
    reader: Reader<Transport>,
}

/// A service.
pub struct Client {
    settings: Settings,
    budget: Arc<Budget>,
    idle: Mutex<Vec<Connection>>,
    /// The endpoint that answered, with its address.
    chosen: OnceLock<(usize, SocketAddr)>,
    tls: OnceLock<Arc<rustls::ClientConfig>>,
}

impl Client {
    /// Nothing happens before the first request.
    pub fn new(settings: Settings, budget: Arc<Budget>) -> Self {
        Self { settings, budget, idle: Mutex::default(), chosen: OnceLock::new(), tls: OnceLock::new() }
    }

    /// Adds a header field to every request from now on.
    pub fn add_field(&mut self, name: &'static str, value: impl Into<String>) {
        self.settings.fields.push((name, value.into()));
    }

    /// Changes when requests are sent again.
    pub fn set_retry(&mut self, retry: Retry) {
        self.settings.retry = retry;
    }

    /// A connection on which no answer comes is not tried again: the caller
    /// has another idea.
    pub fn give_up_on_silence(&mut self) {
        self.settings.retry.broken = false;
    }

    /// From now on it is certain that there is a server: what fails is tried
    /// again.
    pub fn be_patient(&mut self) {
        let codes = self.settings.retry.codes;
        self.settings.retry = Retry { codes, ..Retry::default() };
    }

    /// What is asked for, for messages.
    pub fn url(&self, path: &str) -> String {
        let chosen = self.chosen.get().map_or(0, |(index, _)| *index);
        self.settings.endpoints.get(chosen).map_or_else(String::new, |url| format!("{url}{path}"))
    }

    /// An answer that makes no sense.
    pub fn unexpected(&self, path: &str, reason: impl Into<String>) -> HttpError {
        HttpError::Unexpected { url: self.url(path), reason: reason.into() }
    }

    /// Asks for something; `None` if the server says that there is no such
    /// thing (404).
    ///
    /// # Errors
    /// [`HttpError`]; any status but 2xx and 404 is one.
    pub fn get(&self, path: &str) -> Result<Option<Response>, HttpError> {
        self.found(self.send(&Request::get(path))?, "GET", path)
    }

    /// Makes an error of a status that is neither success nor 404.
    ///
    /// # Errors
    /// [`HttpError::Status`].
    pub fn found(
        &self,
        response: Response,
        method: &'static str,
        path: &str,
    ) -> Result<Option<Response>, HttpError> {
        match response.status {
            200..=299 => Ok(Some(response)),
            404 => Ok(None),
            _ => Err(self.refusal(&response, method, path)),
        }
    }

    /// What an answer of this status says, as an error.
    pub fn refusal(&self, response: &Response, method: &'static str, path: &str) -> HttpError {
        let reason = match response.status {
            300..=399 => ": redirects are not followed".to_owned(),
            _ => excerpt(&response.text()),
        };
        HttpError::Status { method, url: self.url(path), status: response.status, reason }
    }

    /// Sends several requests, each over the connection that is free first,
    /// at most `at_once` at a time. The results are in the requests' order.
    pub fn send_all(&self, requests: &[Request], at_once: usize) -> Vec<Result<Response, HttpError>> {
        let next = AtomicUsize::new(0);
        let results: Mutex<Vec<Option<Result<Response, HttpError>>>> =
            Mutex::new(requests.iter().map(|_| None).collect());
        let work = || {
            let mut own = None;
            while let Some((index, request)) = {
                let index = next.fetch_add(1, Ordering::Relaxed);
                requests.get(index).map(|request| (index, request))
            } {
                let result = self.send_over(&mut own, request);
                let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(slot) = results.get_mut(index) {
                    *slot = Some(result);
                }
            }
            // The connection is closed here and not kept: a server that
            // serves one connection at a time gets to the next one only so.
        };
        std::thread::scope(|scope| {
            for _ in 1..at_once.min(requests.len()) {
                // Without a thread more, those there are do the work.
                let _ = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
            }
            work();
        });
        let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.into_iter().map(|result| result.unwrap_or(Err(HttpError::Cancelled))).collect()
    }

    /// Sends a request, again where [`Retry`] says so, until there is an
    /// answer that counts or the budget is used up. Any status may come back.
    ///
    /// # Errors
    /// [`HttpError`], of the last attempt.
    pub fn send(&self, request: &Request) -> Result<Response, HttpError> {
        let mut connection = None;
        let result = self.send_over(&mut connection, request);
        if let Some(connection) = connection {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
        result
    }

    fn send_over(&self, own: &mut Option<Connection>, request: &Request) -> Result<Response, HttpError> {
        let retry = self.settings.retry;
        let (mut answers, mut failures) = (0, 0);
        let mut news: Option<News> = None;
        // What the server says tells more than its silence afterwards.
        let mut said: Option<HttpError> = None;
        loop {
            let deadline = self.budget.deadline().ok_or(HttpError::Cancelled)?;
            let (wait, error, network) = match self.exchange(own, request, deadline) {
                Ok(response) if retry.codes.contains(&response.status) => {
                    answers += 1;
                    let asked = response.field("retry-after");
                    let asked = asked.and_then(|value| retry_after(value, response.field("date")));
                    // "At once" is no pause, and some ask for ever: ours then.
                    let asked = asked.filter(|asked| !asked.is_zero());
                    let wait = asked.unwrap_or_else(|| pause(answers - 1, random()));
                    (wait, self.refusal(&response, request.method, &request.path), false)
                }
                Err(error) if error.may_pass(retry) => {
                    failures += 1;
                    (pause(failures - 1, random()), error, true)
                }
                result => return result,
            };
            let deadline = self.budget.deadline().ok_or(HttpError::Cancelled)?;
            let left = deadline.remaining();
            let over = answers >= retry.attempts || left < TOO_LATE;
            match (over, network) {
                (true, true) => return Err(said.unwrap_or(error)),
                (true, false) => return Err(error),
                (false, true) => {}
                (false, false) => said = Some(error),
            }
            // A server may ask for more patience than there is: half of it is
            // kept for the answer.
            let wait = wait.min(left / 2);
            if network {
                // A network that changes ends the pause.
                news.get_or_insert_with(News::of_network).wait(wait);
            } else {
                std::thread::sleep(wait);
            }
        }
    }

    /// One request and its answer. A kept connection may have been closed
    /// meanwhile: then a new one is tried at once.
    fn exchange(
        &self,
        own: &mut Option<Connection>,
        request: &Request,
        deadline: Deadline,
    ) -> Result<Response, HttpError> {
        let kept = own.take().or_else(|| self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop());
        if let Some(mut connection) = kept {
            let fresh = !connection.reader.has_leftover() && !connection.reader.inner_mut().wire().is_stale();
            if fresh {
                match self.exchange_over(&mut connection, request, deadline) {
                    Err(HttpError::Message { source, .. }) if is_hangup(&source) => {}
                    result => return self.keep(own, connection, result),
                }
            }
        }
        let mut connection = self.open(deadline.at_most(CONNECT))?;
        // Which may have given it more time.
        let deadline = self.budget.deadline().ok_or(HttpError::Cancelled)?;
        let result = self.exchange_over(&mut connection, request, deadline);
        self.keep(own, connection, result)
    }

    fn keep(
        &self,
        own: &mut Option<Connection>,
        connection: Connection,
        result: Result<Response, HttpError>,
    ) -> Result<Response, HttpError> {
        if result.as_ref().is_ok_and(|response| response.keep_alive) {
            *own = Some(connection);
        }
        result
    }

    fn exchange_over(
        &self,
        connection: &mut Connection,
        request: &Request,
        deadline: Deadline,
    ) -> Result<Response, HttpError> {
        let fail =
            |source| HttpError::Message { method: request.method, url: self.url(&request.path), source };
        let Some(endpoint) = self.settings.endpoints.get(connection.endpoint) else {
            return Err(fail(MessageError::Closed));
        };
        let path = endpoint.join(&request.path);
        let bytes = request.encode(&path, &endpoint.authority(), &self.settings.fields);
        let bytes = bytes.map_err(|error| fail(error.into()))?;
        let mut limits = self.settings.limits;
        limits.body = request.body_limit.unwrap_or(limits.body);
        let transport = connection.reader.inner_mut();
        transport.wire().set_deadline(deadline.at_most(request.patience.unwrap_or(EXCHANGE)));
        transport.write_all(&bytes).and_then(|()| transport.flush()).map_err(|error| fail(error.into()))?;
        connection.reader.response(request.method, limits).map_err(fail)
    }

    fn open(&self, deadline: Deadline) -> Result<Connection, HttpError> {
        let targets = match self.chosen.get() {
            Some(target) => vec![*target],
            None => self.targets(deadline)?,
        };
        let addresses: Vec<SocketAddr> = targets.iter().map(|(_, address)| *address).collect();
        let first = targets.first().map_or(0, |(index, _)| *index);
        let url = |index: usize| self.settings.endpoints.get(index).map_or_else(String::new, Url::to_string);
        let (wire, address) = connect(&addresses, self.settings.local_port, deadline)
            .map_err(|source| HttpError::Connect { url: url(first), source })?;
        self.budget.connected();
        let found = targets.iter().find(|(_, own)| *own == address);
        let endpoint = found.map_or(first, |(index, _)| *index);
        let _ = self.chosen.set((endpoint, address));
        let transport = match self.settings.endpoints.get(endpoint) {
            Some(own) if own.tls => {
                let fail = |source| HttpError::Tls { url: url(endpoint), source };
                let config = match self.tls.get() {
                    Some(config) => Arc::clone(config),
                    None => Arc::clone(self.tls.get_or_init({
                        let config = tls::config().map_err(fail)?;
                        || config
                    })),
                };
                let name =
                    own.host.address().map_or_else(|| own.host.to_string(), |address| address.to_string());
                tls::wrap(&config, &name, wire).map_err(fail)?
            }
            _ => Transport::Plain(wire),
        };
        Ok(Connection { endpoint, reader: Reader::new(transport) })
    }

    /// The addresses of every endpoint, in order.
    fn targets(&self, deadline: Deadline) -> Result<Vec<(usize, SocketAddr)>, HttpError> {
        let mut targets = Vec::new();
        let mut failure = None;
        for (index, endpoint) in self.settings.endpoints.iter().enumerate() {
            match &endpoint.host {
                Host::V4(address) => targets.push((index, (*address, endpoint.port).into())),
                Host::V6(address, zone) => {
                    let scope =
                        zone.as_deref().map_or(Some(0), |zone| nix::net::if_::if_nametoindex(zone).ok());
                    let target = |scope| SocketAddrV6::new(*address, endpoint.port, 0, scope).into();
                    targets.extend(scope.map(|scope| (index, target(scope))));
                }
                Host::Name(name) => match Resolver::system().resolve(name, deadline) {
                    Ok(found) => targets.extend(found.iter().map(|ip| (index, (*ip, endpoint.port).into()))),
                    Err(source) => failure = Some(HttpError::Dns { url: endpoint.to_string(), source }),
                },
            }
        }
        match failure {
            Some(failure) if targets.is_empty() => Err(failure),
            _ => Ok(targets),
        }
    }
}

/// Whether the other side had already hung up when it was asked.
fn is_hangup(error: &MessageError) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    match error {
        MessageError::Closed => true,
        MessageError::Io(error) => matches!(error.kind(), BrokenPipe | ConnectionReset | ConnectionAborted),
        _ => false,
    }
}

/// A number nobody can guess: the standard library seeds its hash tables
/// with some.
pub fn random() -> u32 {
    u32::try_from(RandomState::new().build_hasher().finish() & u64::from(u32::MAX)).unwrap_or_default()
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
