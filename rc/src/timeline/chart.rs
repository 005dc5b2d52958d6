// SPDX-License-Identifier: Apache-2.0
//! A boot as a chart: one SVG file that needs nothing else, for light and for
//! dark pages. One bar a step, time to the right, what ran side by side in
//! rows of its own, the critical path in red.

use std::fmt::Write as _;

use super::rows::{Kind, Lane, View};
use super::table::seconds;
use super::{BOOT, DONE, Span, WAITING, kernel};

/// The chart's width, and the columns of it: names, bars, a margin.
const WIDTH: u64 = 1200;
const LEFT: u64 = 186;
const RIGHT: u64 = 60;
const PLOT: u64 = WIDTH - LEFT - RIGHT;

/// Where the rows begin.
const TOP: u64 = 96;

/// A row, and the bar in it.
const ROW: u64 = 20;
const BAR: u64 = 13;

/// About how wide a character is.
const CHARACTER: u64 = 6;

/// The most lines of the time axis.
const TICKS: u64 = 14;

const STYLE: &str = "\
text{font:12px system-ui,'Segoe UI',Roboto,'DejaVu Sans',Arial,sans-serif;fill:#1f2328}\
.title{font-size:18px;font-weight:600}.soft{fill:#59636e}.small{font-size:11px}.end{text-anchor:end}\
.page{fill:#fff}.grid{stroke:#d8dee4}.band{fill:#f6f8fa}\
.path{stroke:#d1242f;fill:none;stroke-width:1.3;opacity:.55}.on{fill:#d1242f}\
.failed{fill:none;stroke:#d1242f;stroke-width:1.5;stroke-dasharray:3 2}.why{fill:#b3202a}\
.wait{fill:url(#waiting)}.hatch{stroke:#8c959f}\
.kernel{fill:#8792a2}.boot{fill:#4878b6}.devices{fill:#35a0a0}.containerd{fill:#9a68b5}\
.script{fill:#a47148}.onboot{fill:#e58a2b}.service{fill:#4f9d4f}.pale{opacity:.5}.faint{opacity:.22}\
@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.soft{fill:#9da7b1}.page{fill:#0d1117}\
.grid{stroke:#30363d}.band{fill:#151b23}.path{stroke:#ff6b6b}.on{fill:#ff6b6b}\
.failed{stroke:#ff6b6b}.why{fill:#ff8f8f}}";

/// The chart's text.
pub fn chart(view: &View<'_>) -> String {
    let mut chart = Chart { view, rows: Vec::new(), bars: vec![None; view.spans.len()] };
    for lane in view.lanes() {
        chart.place(&lane);
    }
    chart.draw()
}

/// What stands in one row, from left to right.
struct Row<'a> {
    kind: Kind,
    /// What is written at its left.
    label: Option<&'a str>,
    /// Steps, each with what is written at its right.
    steps: Vec<(usize, String)>,
    /// How far it is taken.
    taken: u64,
}

struct Chart<'a> {
    view: &'a View<'a>,
    rows: Vec<Row<'a>>,
    /// The row of each step.
    bars: Vec<Option<usize>>,
}

impl<'a> Chart<'a> {
    fn x(&self, time: u64) -> u64 {
        LEFT + time.min(self.view.end) * PLOT / self.view.end.max(1)
    }

    fn span(&self, step: usize) -> Option<&'a Span> {
        self.view.spans.get(step)
    }

    fn end(&self, span: &Span) -> u64 {
        span.end_or(self.view.now)
    }

    /// Gives a lane its row. Modules, and the boot's own steps, are many and
    /// short: each goes into the first row that has room for it and its name.
    fn place(&mut self, lane: &Lane<'a>) {
        if lane.name == BOOT || lane.name.starts_with("module ") {
            for step in &lane.steps {
                self.pack(lane, *step);
            }
            return;
        }
        let spans = || lane.steps.iter().filter_map(|step| self.span(*step));
        let busy = spans().filter(|span| span.name != WAITING);
        let took: u64 = busy.map(|span| self.end(span) - span.start).sum();
        let mut note = time(took);
        if let Some(why) = spans().find_map(|span| span.failed.as_deref()) {
            note = format!("{note}, failed: {}", cut(why));
        } else if spans().any(|span| span.end.is_none()) {
            note += ", under way";
        }
        let last = lane.steps.len().saturating_sub(1);
        let steps = lane.steps.iter().enumerate();
        let steps = steps.map(|(at, step)| (*step, if at == last { note.clone() } else { String::new() }));
        let row = Row { kind: lane.kind, label: Some(lane.name), steps: steps.collect(), taken: WIDTH };
        for step in &lane.steps {
            self.set(*step, self.rows.len());
        }
        self.rows.push(row);
    }

    fn pack(&mut self, lane: &Lane<'a>, step: usize) {
        let Some(span) = self.span(step).filter(|span| span.name != DONE) else { return };
        let name = lane.name.strip_prefix("module ").unwrap_or(&span.name);
        let (from, to) = (self.x(span.start), self.x(self.end(span)));
        let mut note = format!("{name} {}", time(self.end(span) - span.start));
        if let Some(why) = &span.failed {
            note = format!("{note}, {}", cut(why));
        }
        let taken = to + (note.chars().count() as u64 + 3) * CHARACTER;
        let free = |row: &Row<'_>| row.kind == lane.kind && row.label.is_none() && row.taken <= from;
        let at = self.rows.iter().position(free).unwrap_or_else(|| {
            self.rows.push(Row { kind: lane.kind, label: None, steps: Vec::new(), taken: 0 });
            self.rows.len() - 1
        });
        if let Some(row) = self.rows.get_mut(at) {
            row.taken = taken;
            row.steps.push((step, note));
        }
        self.set(step, at);
    }

    fn set(&mut self, step: usize, row: usize) {
        if let Some(bar) = self.bars.get_mut(step) {
            *bar = Some(row);
        }
    }

    fn draw(mut self) -> String {
        // Rows of one kind stand together, and a packed row may have come
        // between two others: the order is made here, and the bars told.
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        let begin = |row: &Row<'_>| {
            let starts = row.steps.iter().filter_map(|(step, _)| self.span(*step));
            starts.map(|span| span.start).min().unwrap_or_default()
        };
        order.sort_by_key(|at| {
            let row = self.rows.get(*at);
            let kind = row.and_then(|row| Kind::ALL.iter().position(|kind| *kind == row.kind));
            (kind, row.map_or(0, begin))
        });
        let place = |row: usize| order.iter().position(|at| *at == row).unwrap_or_default();
        let bars: Vec<Option<usize>> = self.bars.iter().map(|row| row.map(place)).collect();
        self.bars = bars;

        let mut out = String::new();
        let bottom = TOP + order.len() as u64 * ROW + 8;
        let height = bottom + 62;
        let _ = write!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
             viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"Where the time of a boot went\">\n\
             <style>{STYLE}</style>\n\
             <defs><pattern id=\"waiting\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
             patternTransform=\"rotate(45)\"><path class=\"hatch\" d=\"M0 0V6\" stroke-width=\"1.5\"/></pattern></defs>\n\
             <rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\" rx=\"6\"/>\n"
        );
        self.head(&mut out);
        // What is drawn later is above: bars above lines, words above both.
        let mut words = String::new();
        let (mut last, mut named) = (None, Vec::new());
        for (place, row) in order.iter().filter_map(|at| self.rows.get(*at)).enumerate() {
            let first = last.replace(row.kind) != Some(row.kind);
            let y = TOP + place as u64 * ROW;
            if place % 2 == 1 {
                let _ = writeln!(out, "<rect class=\"band\" y=\"{y}\" width=\"{WIDTH}\" height=\"{ROW}\"/>");
            }
            if first {
                let _ = writeln!(out, "<path class=\"grid\" d=\"M0 {y}H{WIDTH}\"/>");
            }
            let packed = row.label.is_none() && !named.contains(&row.kind.word());
            if packed {
                named.push(row.kind.word());
            }
            self.words(&mut words, row, y, packed);
        }
        self.axis(&mut out, bottom);
        let on = self.path(&mut out);
        for (place, row) in order.iter().filter_map(|at| self.rows.get(*at)).enumerate() {
            self.bars(&mut out, row, TOP + place as u64 * ROW + (ROW - BAR) / 2);
        }
        out.push_str(&on);
        out.push_str(&words);
        legend(&mut out, bottom + 44);
        out.push_str("</svg>\n");
        out
    }

    fn head(&self, out: &mut String) {
        let end = seconds(self.view.end);
        let title = match self.view.done() {
            Some(_) => format!("Boot: {end:.2} s from the kernel's start to the last service"),
            None => format!("Boot: not done after {end:.2} s"),
        };
        text(out, "title", 24, 34, &title);
        let lanes = self.view.lanes();
        let count = |kind: Kind| lanes.iter().filter(|lane| lane.kind == kind).count();
        let modules = lanes.iter().filter(|lane| lane.name.starts_with("module ")).count();
        let release = self.view.spans.iter().find(|span| span.lane == kernel::KERNEL);
        let mut parts: Vec<String> = release.map(|span| format!("Linux {}", span.name)).into_iter().collect();
        for (count, one) in [
            (modules, "module"),
            (count(Kind::Script), "script"),
            (count(Kind::Onboot), "onboot container"),
            (count(Kind::Service), "service"),
        ] {
            parts.push(format!("{count} {one}{}", if count == 1 { "" } else { "s" }));
        }
        let soft = parts.join(" \u{b7} ");
        text(out, "soft", 24, 56, &soft);
    }

    /// What is written in a row; the first packed one of its kind has its name.
    fn words(&self, out: &mut String, row: &Row<'_>, y: u64, first: bool) {
        let base = y + 14;
        let label = row.label.or(first.then_some(match row.kind {
            Kind::Devices => "modules",
            kind => kind.word(),
        }));
        if let Some(label) = label {
            text(out, "end", LEFT - 10, base, &shortened(label));
        }
        let mut last = 0;
        for (step, note) in &row.steps {
            let Some(span) = self.span(*step) else { continue };
            last = last.max(self.x(self.end(span)));
            if note.is_empty() {
                continue;
            }
            let class = if span.failed.is_some() { "small why" } else { "small" };
            let width = note.chars().count() as u64 * CHARACTER;
            // At the right edge there is no room: it goes to the left.
            if last + width + 6 > WIDTH {
                let from = row.steps.iter().filter_map(|(step, _)| self.span(*step));
                let from = from.map(|span| self.x(span.start)).min().unwrap_or(last);
                text(out, &format!("{class} end"), from.max(LEFT + width + 6) - 6, base, note);
            } else {
                text(out, class, last + 6, base, note);
            }
        }
    }

    fn bars(&self, out: &mut String, row: &Row<'_>, top: u64) {
        let spans = || row.steps.iter().filter_map(|(step, _)| self.span(*step));
        for span in spans() {
            self.bar(out, row, span, top);
        }
        // A service that has come up goes on.
        let to = spans().map(|span| self.x(self.end(span))).max().unwrap_or_default();
        let up = spans().all(|span| span.failed.is_none() && span.end.is_some());
        if row.kind == Kind::Service && up && to < LEFT + PLOT {
            let _ = writeln!(
                out,
                "<rect class=\"service faint\" x=\"{to}\" y=\"{}\" width=\"{}\" height=\"3\"/>",
                top + BAR / 2 - 1,
                LEFT + PLOT - to
            );
        }
    }

    fn bar(&self, out: &mut String, row: &Row<'_>, span: &Span, top: u64) {
        let (from, to) = (self.x(span.start), self.x(self.end(span)));
        let width = (to - from).max(2);
        let class = class(row.kind);
        let class = match span.name.as_str() {
            WAITING => "wait".to_owned(),
            "prepare" | "create" | "delete" => format!("{class} pale"),
            "start" if row.kind == Kind::Onboot => format!("{class} pale"),
            _ => class.to_owned(),
        };
        let _ = write!(
            out,
            "<rect class=\"{class}\" x=\"{from}\" y=\"{top}\" width=\"{width}\" height=\"{BAR}\" rx=\"1.5\"><title>"
        );
        let end = span.end.map_or("under way".to_owned(), |end| format!("{:.3} s", seconds(end)));
        let title = format!(
            "{} {}: {:.3} s to {end}, {}",
            span.lane,
            span.name,
            seconds(span.start),
            time(self.end(span) - span.start)
        );
        escape(out, &title);
        if let Some(wanted) = &span.wanted {
            escape(out, &format!(", for {wanted}"));
        }
        if let Some(why) = &span.failed {
            escape(out, &format!(", failed: {why}"));
        }
        out.push_str("</title></rect>\n");
        if span.failed.is_some() {
            let _ = writeln!(
                out,
                "<rect class=\"failed\" x=\"{from}\" y=\"{top}\" width=\"{width}\" height=\"{BAR}\" rx=\"1.5\"/>"
            );
        }
    }

    /// The time axis, above and below.
    fn axis(&self, out: &mut String, bottom: u64) {
        let step = tick(self.view.end);
        let mut at = 0;
        while at <= self.view.end {
            let x = self.x(at);
            let _ = writeln!(out, "<path class=\"grid\" opacity=\".7\" d=\"M{x} {}V{bottom}\"/>", TOP - 4);
            let label = match step {
                1_000_000.. => format!("{} s", at / 1_000_000),
                _ => format!("{:.1} s", seconds(at)),
            };
            for y in [TOP - 10, bottom + 14] {
                let _ = writeln!(
                    out,
                    "<text class=\"soft small\" x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{label}</text>"
                );
            }
            at += step;
        }
    }

    /// The critical path: lines from one bar to the next, and, returned, red
    /// below the bars.
    fn path(&self, out: &mut String) -> String {
        let mut on = String::new();
        let mut before: Option<(u64, u64)> = None;
        for piece in &self.view.path {
            let Some(row) = self.bars.get(piece.span).copied().flatten() else { continue };
            let y = TOP + row as u64 * ROW + (ROW + BAR) / 2 - 1;
            let (from, to) = (self.x(piece.from), self.x(piece.to));
            if let Some((x, above)) = before {
                let _ = writeln!(out, "<path class=\"path\" d=\"M{x} {above}H{from}V{y}\"/>");
            }
            let width = (to - from).max(1);
            let _ =
                writeln!(on, "<rect class=\"on\" x=\"{from}\" y=\"{y}\" width=\"{width}\" height=\"3\"/>");
            before = Some((to, y + 1));
        }
        on
    }
}

fn legend(out: &mut String, y: u64) {
    let mut x = 24;
    let mut entry = |out: &mut String, mark: String, word: &str| {
        let _ = writeln!(out, "{mark}");
        text(out, "small", x + 20, y, word);
        x += 20 + word.chars().count() as u64 * CHARACTER + 22;
        x
    };
    let swatch = |x: u64, class: &str| {
        format!("<rect class=\"{class}\" x=\"{x}\" y=\"{}\" width=\"14\" height=\"10\" rx=\"1.5\"/>", y - 9)
    };
    let mut next = 24;
    for kind in Kind::ALL {
        next = entry(out, swatch(next, class(kind)), kind.word());
    }
    next = entry(out, swatch(next, "onboot pale"), "pale: made, removed");
    next = entry(out, swatch(next, "wait"), "waits");
    let path = format!("<rect class=\"on\" x=\"{next}\" y=\"{}\" width=\"14\" height=\"3\"/>", y - 5);
    entry(out, path, "critical path");
}

fn class(kind: Kind) -> &'static str {
    match kind {
        Kind::Kernel => "kernel",
        Kind::Boot => "boot",
        Kind::Devices => "devices",
        Kind::Containerd => "containerd",
        Kind::Script => "script",
        Kind::Onboot => "onboot",
        Kind::Service => "service",
    }
}

/// The distance of the axis' lines: 1, 2 or 5 of something, at most
/// [`TICKS`] of them.
fn tick(end: u64) -> u64 {
    let mut step = 1000;
    loop {
        for factor in [1, 2, 5] {
            if end / (step * factor) <= TICKS {
                return step * factor;
            }
        }
        step *= 10;
    }
}

/// A duration for people: `1.23 s`, `31 ms`, `0.4 ms`.
fn time(micros: u64) -> String {
    match micros {
        1_000_000.. => format!("{:.2} s", seconds(micros)),
        9_500.. => format!("{:.0} ms", seconds(micros) * 1e3),
        _ => format!("{:.1} ms", seconds(micros) * 1e3),
    }
}

/// The beginning of a long reason; the whole of it is in the bar's title.
fn cut(why: &str) -> String {
    match why.char_indices().nth(48) {
        None => why.to_owned(),
        Some((at, _)) => format!("{}\u{2026}", why.get(..at).unwrap_or_default()),
    }
}

/// A name that fits at the left of the rows.
fn shortened(name: &str) -> String {
    match name.char_indices().nth(26) {
        None => name.to_owned(),
        Some((at, _)) => format!("{}\u{2026}", name.get(..at).unwrap_or_default()),
    }
}

fn text(out: &mut String, class: &str, x: u64, y: u64, content: &str) {
    let _ = write!(out, "<text class=\"{class}\" x=\"{x}\" y=\"{y}\">");
    escape(out, content);
    out.push_str("</text>\n");
}

/// Text for XML; control characters are none of it.
fn escape(out: &mut String, content: &str) {
    for character in content.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            character if character.is_control() => out.push(' '),
            character => out.push(character),
        }
    }
}
