// SPDX-License-Identifier: Apache-2.0
//! A boot as a table for a terminal of 80 columns, and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::rows::{Kind, View};
use super::{BOOT, DONE, Span, WAITING};

/// The columns of the bars.
const BAR: u64 = 28;

/// The columns of the names.
const NAME: usize = 30;

/// A module that took less than this part of the boot is not worth a line.
const WORTH: u64 = 100;

/// The table.
pub fn table(view: &View<'_>) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = match view.done() {
        Some(done) => {
            writeln!(text, "The boot took {:.3} s. Steps marked * made it that long.", seconds(done))
        }
        None => writeln!(text, "The boot is not done, {:.3} s after the kernel's start.", seconds(view.now)),
    };
    let end = format!("{:.1} s", seconds(view.end));
    let width = usize::try_from(BAR).unwrap_or_default() - 1;
    let _ = writeln!(text, "\n   START     TOOK   {:<NAME$} 0{end:>width$}", "WHAT");
    let mut left_out = 0;
    for lane in view.lanes() {
        let steps: Vec<usize> = lane.steps.iter().copied().filter(|at| !is_done(view, *at)).collect();
        let module = lane.name.strip_prefix("module ");
        if module.is_none() && left_out > 0 {
            let _ = writeln!(text, "{:20}  and {left_out} quick modules", "");
            left_out = 0;
        }
        match (module, steps.as_slice()) {
            (Some(name), [step]) => {
                let worth = view.spans.get(*step).is_some_and(|span| took(view, span) * WORTH >= view.end);
                if worth || view.is_critical(*step) {
                    line(&mut text, view, &[*step], &format!("  {name}"));
                } else {
                    left_out += 1;
                }
            }
            _ if lane.name == BOOT => {
                for step in &steps {
                    let name = view.spans.get(*step).map_or("", |span| span.name.as_str());
                    line(&mut text, view, &[*step], name);
                }
            }
            (_, [step]) => {
                let name = view.spans.get(*step).map_or("", |span| span.name.as_str());
                let name = match lane.kind {
                    Kind::Script => lane.name.to_owned(),
                    _ => format!("{} {name}", lane.name),
                };
                line(&mut text, view, &[*step], &name);
            }
            _ => {
                line(&mut text, view, &steps, lane.name);
                for step in &steps {
                    let name = view.spans.get(*step).map_or("", |span| span.name.as_str());
                    line(&mut text, view, &[*step], &format!("  {name}"));
                }
            }
        }
    }
    text
}

/// One line: a step, or several together.
fn line(text: &mut String, view: &View<'_>, steps: &[usize], name: &str) {
    let spans: Vec<&Span> = steps.iter().filter_map(|at| view.spans.get(*at)).collect();
    let (Some(start), Some(end)) =
        (spans.iter().map(|span| span.start).min(), spans.iter().map(|span| span.end_or(view.now)).max())
    else {
        return;
    };
    let mark = if steps.iter().any(|at| view.is_critical(*at)) { '*' } else { ' ' };
    let _ = writeln!(
        text,
        "{:>8.3} {:>8.3} {mark} {} {}",
        seconds(start),
        seconds(end - start),
        fit(name, NAME),
        bar(view, steps).trim_end(),
    );
    if let [span] = spans.as_slice() {
        if let Some(why) = &span.failed {
            let _ = writeln!(text, "{:20}    failed: {why}", "");
        } else if span.end.is_none() {
            let _ = writeln!(text, "{:20}    under way", "");
        }
    }
}

/// `#` where the critical path is, `=` elsewhere, `.` for waiting.
fn bar(view: &View<'_>, steps: &[usize]) -> String {
    let scale = view.end.max(1);
    let columns = |from: u64, to: u64| {
        let first = (from * BAR / scale).min(BAR - 1);
        first..(to * BAR).div_ceil(scale).clamp(first + 1, BAR)
    };
    let mut cells = vec![' '; usize::try_from(BAR).unwrap_or_default()];
    let mut paint = |from: u64, to: u64, with: char| {
        for column in columns(from, to) {
            if let Some(cell) = usize::try_from(column).ok().and_then(|column| cells.get_mut(column)) {
                *cell = with;
            }
        }
    };
    for span in steps.iter().filter_map(|at| view.spans.get(*at)) {
        paint(span.start, span.end_or(view.now), if span.name == WAITING { '.' } else { '=' });
    }
    for piece in view.path.iter().filter(|piece| steps.contains(&piece.span)) {
        paint(piece.from, piece.to, '#');
    }
    cells.into_iter().collect()
}

/// A name in exactly so many columns.
fn fit(name: &str, width: usize) -> String {
    match name.char_indices().nth(width) {
        None => format!("{name:<width$}"),
        Some(_) => name.chars().take(width - 1).chain(['~']).collect(),
    }
}

fn is_done(view: &View<'_>, step: usize) -> bool {
    view.spans.get(step).is_some_and(|span| span.lane == BOOT && span.name == DONE)
}

fn took(view: &View<'_>, span: &Span) -> u64 {
    span.end_or(view.now) - span.start
}

/// Microseconds as seconds.
pub(super) fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// The same as JSON; its members are in docs/boot-chart.md.
pub fn json(view: &View<'_>) -> Value {
    let step = |(at, span): (usize, &Span)| {
        json!({
            "id": span.id(),
            "kind": Kind::of(&span.lane).word(),
            "lane": span.lane,
            "name": span.name,
            "start": seconds(span.start),
            "end": span.end.map(seconds),
            "after": span.after,
            "for": span.wanted,
            "critical": view.is_critical(at),
            "failed": span.failed,
        })
    };
    let piece = |piece: &super::path::Piece| {
        json!({
            "id": view.spans.get(piece.span).map(Span::id),
            "from": seconds(piece.from),
            "to": seconds(piece.to),
        })
    };
    json!({
        "schema": 1,
        "unit": "seconds since the kernel started",
        "done": view.done().map(seconds),
        "end": seconds(view.end),
        "steps": view.spans.iter().enumerate().map(step).collect::<Vec<_>>(),
        "critical": view.path.iter().map(piece).collect::<Vec<_>>(),
    })
}
