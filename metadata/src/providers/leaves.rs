// SPDX-License-Identifier: Apache-2.0
//! What services have in common: a value at a path of its own, documents in JSON.

use serde::de::{Deserialize, DeserializeOwned, Deserializer};

use super::{Found, ProviderError};
use crate::errors;
use crate::http::{Client, HttpError, Request, Response};

/// Asks for all paths at once and writes each value that is there into the
/// file of its name. Returns nothing: what fails is a problem, not an end.
pub(crate) fn files(service: &Client, found: &mut Found, leaves: &[(&str, &str)]) {
    let requests: Vec<Request> = leaves.iter().map(|(path, _)| Request::get(*path)).collect();
    for ((path, name), result) in leaves.iter().zip(service.send_all(&requests, leaves.len())) {
        match value(service, path, result) {
            Ok(bytes) => found.file(name, bytes),
            Err(error) => found.problem(error),
        }
    }
}

/// The body of an answer; `None` where the service has no such thing.
///
/// # Errors
/// [`HttpError`]; any status but 2xx and 404 is one.
pub(crate) fn value(
    service: &Client,
    path: &str,
    result: Result<Response, HttpError>,
) -> Result<Option<Vec<u8>>, HttpError> {
    Ok(service.found(result?, "GET", path)?.map(|response| response.body))
}

/// User data at a path of its own: an answer without content is none.
///
/// # Errors
/// [`HttpError`].
pub(crate) fn user_data(
    service: &Client,
    path: &str,
    result: Result<Response, HttpError>,
) -> Result<Option<Vec<u8>>, HttpError> {
    Ok(value(service, path, result)?.filter(|bytes| !bytes.is_empty()))
}

/// The document of an answer.
///
/// # Errors
/// [`ProviderError::Absent`] where there is none, [`ProviderError::Document`]
/// where it is not of this shape.
pub(crate) fn document<T: DeserializeOwned>(
    service: &Client,
    path: &str,
    response: Option<&Response>,
) -> Result<T, ProviderError> {
    let absent = || ProviderError::Absent(format!("{}: not found", service.url(path)));
    let response = response.ok_or_else(absent)?;
    parse(&service.url(path), &response.body)
}

/// A document in JSON.
///
/// # Errors
/// [`ProviderError::Document`].
pub(crate) fn parse<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, ProviderError> {
    serde_json::from_slice(bytes).map_err(|error| ProviderError::document(what, errors::json(&error)))
}

/// `null` is as if the field were absent: programs in Go say so of lists that
/// are empty.
///
/// # Errors
/// The deserializer's.
pub(crate) fn or_default<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A text or a number, for services that are not of one mind.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(untagged)]
pub(crate) enum Scalar {
    /// A text.
    Text(String),
    /// A number.
    Number(u64),
}

impl std::fmt::Display for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => number.fmt(f),
        }
    }
}

/// A list of texts, or one text of several lines, or nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(untagged)]
pub(crate) enum Lines {
    /// A list.
    List(Vec<String>),
    /// A text.
    Text(String),
    /// `null`, or not there.
    #[default]
    Nothing,
}

impl Lines {
    /// The texts. A text of several lines is one of them.
    pub(crate) fn as_slice(&self) -> &[String] {
        match self {
            Self::List(list) => list,
            Self::Text(text) => std::slice::from_ref(text),
            Self::Nothing => &[],
        }
    }
}
