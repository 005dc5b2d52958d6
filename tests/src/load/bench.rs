// SPDX-License-Identifier: Apache-2.0
//! Rates, of whatever is between a client and its server.

use std::io::{Read as _, Write as _};
use std::time::Instant;

use anyhow::{Result, ensure};

use super::client::connection;
use super::{Mode, Place, Request};

/// Bytes a second of one stream: to the server, or from it.
pub fn stream(place: &Place, bytes: u64, back: bool) -> Result<f64> {
    let (there, back) = if back { (0, bytes) } else { (bytes, 0) };
    let request = Request { mode: Mode::Blind, seed: 5, there, back };
    let start = Instant::now();
    connection(place, request)?;
    Ok(bytes as f64 / start.elapsed().as_secs_f64())
}

/// Connections a second, one after the other: each sends one byte and waits
/// for its echo.
pub fn connects(place: &Place, count: u32) -> Result<f64> {
    let start = Instant::now();
    for _ in 0..count {
        let socket = place.connect()?;
        (&socket).write_all(b"?")?;
        let mut byte = [0];
        (&socket).read_exact(&mut byte)?;
        ensure!(&byte == b"?", "another byte came back");
    }
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}
