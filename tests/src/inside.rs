// SPDX-License-Identifier: Apache-2.0
//! What a test does with a running image, be it in a machine or in namespaces.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::control::Output;
use crate::vm::{PATIENCE, Vm};

/// A running image.
pub trait Inside {
    /// Runs `command` inside with `/bin/sh`, whatever its exit status.
    fn try_sh(&mut self, command: &str) -> Result<Output>;

    /// Waits until the console says something that matches `regex`, behind
    /// whatever was waited for before; returns its groups, the whole match first.
    fn expect(&mut self, regex: &str) -> Result<Vec<String>>;

    /// Waits until the console has said something that matches `regex`, whenever
    /// that was: for what comes in no order. What [`Inside::expect`] waits for
    /// stays the same.
    fn said(&mut self, regex: &str) -> Result<Vec<String>>;

    /// Runs `command` again and again until it succeeds, as what it asks for
    /// may be on its way; returns what it printed then.
    fn until(&mut self, command: &str) -> Result<String> {
        let end = Instant::now() + PATIENCE;
        loop {
            let Output { status, text } = self.try_sh(command)?;
            match status {
                0 => return Ok(text),
                _ if Instant::now() > end => bail!("`{command}` inside: not within {PATIENCE:?}\n{text}"),
                _ => sleep(Duration::from_millis(200)),
            }
        }
    }

    /// Waits until rc answers: it does so a moment after it has said that it is there.
    fn supervised(&mut self) -> Result<()> {
        self.until("service status -json | grep -q 'supervisor\": true'").map(drop)
    }

    /// Waits until this is in the file `path`, and nothing else: a program that
    /// runs prints a moment later, and what it has printed is in its log still
    /// later.
    fn reads(&mut self, path: &str, wanted: &str) -> Result<()> {
        let is = format!("test \"$(cat {path})\" = \"{}\" || {{ cat {path}; false; }}", wanted.trim_end());
        self.until(&is).map(drop)
    }

    /// Runs `command` inside and returns what it printed; it must succeed.
    fn sh(&mut self, command: &str) -> Result<String> {
        let output = self.try_sh(command)?;
        ensure!(output.status == 0, "`{command}` inside: exit status {}\n{}", output.status, output.text);
        Ok(output.text)
    }
}

impl Inside for Vm {
    fn try_sh(&mut self, command: &str) -> Result<Output> {
        Vm::try_sh(self, command)
    }

    fn expect(&mut self, regex: &str) -> Result<Vec<String>> {
        Vm::expect(self, regex)
    }

    fn said(&mut self, regex: &str) -> Result<Vec<String>> {
        Vm::said(self, regex)
    }
}
