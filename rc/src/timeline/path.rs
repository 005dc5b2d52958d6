// SPDX-License-Identifier: Apache-2.0
//! The critical path: the steps that made the boot as long as it was.
//!
//! It is walked from the end. A step could not begin before the steps it had
//! to wait for; of these the one that ended last is the one that mattered, and
//! so on back to the kernel's start. Whatever is not on the path could have
//! taken longer without anybody noticing.

use super::{DEVICES, Span, WAITING};

/// A part of the path: a step, for as long as it was the one that counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The step, by its place in the list of spans.
    pub span: usize,
    /// From when, in microseconds since the kernel started.
    pub from: u64,
    /// Until when.
    pub to: u64,
}

/// The path through these spans, earliest first. Steps that are under way end
/// `now`.
pub fn critical(spans: &[Span], now: u64) -> Vec<Piece> {
    let mut pieces = Vec::new();
    // Modules are part of what the devices wait for, and are no end in themselves.
    let ends = spans.iter().enumerate().filter(|(_, span)| span.name != WAITING && !is_module(span));
    let last = ends.max_by_key(|(at, span)| (span.end_or(now), span.start, *at));
    let Some((mut at, last)) = last else { return pieces };
    let mut to = last.end_or(now);
    let mut visited = vec![false; spans.len()];
    while let Some(span) = spans.get(at) {
        if let Some(seen) = visited.get_mut(at) {
            *seen = true;
        }
        let from = span.start.min(to);
        pieces.push(Piece { span: at, from, to });
        if span.lane == DEVICES {
            through_modules(spans, &mut pieces);
        }
        let before = predecessors(spans, span).filter(|(at, _)| visited.get(*at) == Some(&false));
        let Some((next, before)) = before.max_by_key(|(_, before)| before.end_or(now)) else { break };
        to = before.end_or(now).min(from);
        at = next;
    }
    pieces.reverse();
    pieces
}

/// The steps that a step had to wait for.
fn predecessors<'a>(spans: &'a [Span], span: &'a Span) -> impl Iterator<Item = (usize, &'a Span)> {
    spans.iter().enumerate().filter(|(_, other)| span.after.contains(&other.id()))
}

fn is_module(span: &Span) -> bool {
    span.lane.starts_with("module ")
}

/// The devices settle when the last module has ended: inside of that step the
/// path leads through this module and those it needed.
fn through_modules(spans: &[Span], pieces: &mut Vec<Piece>) {
    let Some(Piece { span: devices, from, mut to }) = pieces.pop() else { return };
    let inside = spans.iter().enumerate().filter(|(_, span)| is_module(span));
    let mut next = inside
        .filter(|(_, span)| span.start >= from && span.end.is_some_and(|end| end <= to))
        .max_by_key(|(_, span)| span.end);
    while let Some((at, module)) = next {
        let end = module.end_or(to).min(to);
        if end < to {
            pieces.push(Piece { span: devices, from: end, to });
        }
        pieces.push(Piece { span: at, from: module.start.min(end), to: end });
        to = module.start.min(end);
        let needs = predecessors(spans, module).filter(|(_, need)| is_module(need) && need.start < to);
        next = needs.max_by_key(|(_, need)| need.end);
    }
    if from < to {
        pieces.push(Piece { span: devices, from, to });
    }
}
