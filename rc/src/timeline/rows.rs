// SPDX-License-Identifier: Apache-2.0
//! What the table and the chart have in common: lanes in order, each of a kind.

use super::path::{Piece, critical};
use super::{BOOT, CONTAINERD, DEVICES, Span, kernel};

/// What a lane is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The kernel, and the unpacking of the initrd.
    Kernel,
    /// lkinit's own steps.
    Boot,
    /// Devices, and the modules for them.
    Devices,
    /// containerd.
    Containerd,
    /// A script of `/etc/init.d`.
    Script,
    /// A container that runs once.
    Onboot,
    /// A service.
    Service,
}

impl Kind {
    /// Every kind, in the order of the legend.
    pub const ALL: [Self; 7] = [
        Self::Kernel,
        Self::Boot,
        Self::Devices,
        Self::Containerd,
        Self::Script,
        Self::Onboot,
        Self::Service,
    ];

    /// By the first word of a lane.
    pub fn of(lane: &str) -> Self {
        match lane.split(' ').next().unwrap_or_default() {
            kernel::KERNEL | kernel::INITRD => Self::Kernel,
            DEVICES | "module" => Self::Devices,
            CONTAINERD => Self::Containerd,
            "script" => Self::Script,
            "onboot" | "shutdown" => Self::Onboot,
            "service" => Self::Service,
            _ => Self::Boot,
        }
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Boot => "lkinit",
            Self::Devices => "devices and modules",
            Self::Containerd => "containerd",
            Self::Script => "script",
            Self::Onboot => "onboot container",
            Self::Service => "service",
        }
    }
}

/// The steps of one lane, by their places in the list of spans.
pub struct Lane<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its kind.
    pub kind: Kind,
    /// Its steps, earliest first.
    pub steps: Vec<usize>,
}

/// A record, ready to be shown.
pub struct View<'a> {
    /// The steps.
    pub spans: &'a [Span],
    /// When the record was looked at, in microseconds since the kernel started.
    pub now: u64,
    /// The critical path.
    pub path: Vec<Piece>,
    /// When everything had ended; `now` while something is under way.
    pub end: u64,
}

impl<'a> View<'a> {
    /// A view of these steps at a time.
    pub fn new(spans: &'a [Span], now: u64) -> Self {
        let end = spans.iter().map(|span| span.end_or(now)).max().unwrap_or_default();
        Self { spans, now, path: critical(spans, now), end }
    }

    /// Whether a step has a part of the critical path.
    pub fn is_critical(&self, step: usize) -> bool {
        self.path.iter().any(|piece| piece.span == step)
    }

    /// When the boot was done, if it was.
    pub fn done(&self) -> Option<u64> {
        self.spans.iter().find(|span| span.lane == BOOT && span.name == super::DONE)?.end
    }

    /// The lanes in the order in which they began; the modules come after the
    /// devices that they are for.
    pub fn lanes(&self) -> Vec<Lane<'a>> {
        let mut lanes: Vec<Lane<'a>> = Vec::new();
        let mut order: Vec<usize> = (0..self.spans.len()).collect();
        let devices = self.spans.iter().find(|span| span.lane == DEVICES).map(|span| span.start);
        order.sort_by_key(|at| {
            let span = self.spans.get(*at);
            let start = span.map_or(0, |span| span.start);
            match span.is_some_and(|span| span.lane.starts_with("module ")) {
                true => (devices.unwrap_or(start), 1, start),
                false => (start, 0, start),
            }
        });
        for at in order {
            let Some(span) = self.spans.get(at) else { continue };
            match lanes.iter_mut().find(|lane| lane.name == span.lane) {
                Some(lane) => lane.steps.push(at),
                None => lanes.push(Lane { name: &span.lane, kind: Kind::of(&span.lane), steps: vec![at] }),
            }
        }
        lanes
    }
}
