// SPDX-License-Identifier: Apache-2.0
//! What a test does with a running image, be it in a machine or in namespaces.

use anyhow::{Result, ensure};

use crate::control::Output;
use crate::vm::Vm;

/// A running image.
pub trait Inside {
    /// Runs `command` inside with `/bin/sh`, whatever its exit status.
    fn try_sh(&mut self, command: &str) -> Result<Output>;

    /// Waits until the console says something that matches `regex`, behind
    /// whatever was waited for before; returns its groups, the whole match first.
    fn expect(&mut self, regex: &str) -> Result<Vec<String>>;

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
}
