// SPDX-License-Identifier: Apache-2.0
//! Tables and colours for a terminal.

use std::io::IsTerminal as _;

/// The width that everything fits in.
const WIDTH: usize = 80;

/// The least that is left of a column that has to give way.
const LEAST: usize = 12;

/// How a cell looks on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paint {
    Plain,
    Good,
    Busy,
    Bad,
}

/// Whether colours are wanted: on a terminal, unless `NO_COLOR` says no
/// (no-color.org) or the terminal knows none.
pub(super) fn colours() -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    let no = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal() && !dumb && !no
}

/// Text with a colour around it.
pub(super) fn painted(text: &str, paint: Paint, colours: bool) -> String {
    let code = match paint {
        _ if !colours => return text.to_owned(),
        Paint::Plain => return text.to_owned(),
        Paint::Good => 32,
        Paint::Busy => 33,
        Paint::Bad => 31,
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// A cell of a table.
pub(super) struct Cell {
    text: String,
    paint: Paint,
    right: bool,
}

impl Cell {
    /// A number, or what stands for one: at the right of its column.
    pub(super) fn number(text: impl Into<String>) -> Self {
        Self { right: true, ..Self::from(text.into()) }
    }

    pub(super) fn paint(self, paint: Paint) -> Self {
        Self { paint, ..self }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, paint: Paint::Plain, right: false }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// Rows under a head, in aligned columns. Where they do not fit, the first
/// column gives way, then the last one is cut.
pub(super) fn table(head: &[&str], rows: Vec<Vec<Cell>>, colours: bool) -> String {
    let head: Vec<Cell> = head
        .iter()
        .enumerate()
        .map(|(at, title)| Cell {
            right: rows.first().and_then(|row| row.get(at)).is_some_and(|cell| cell.right),
            ..Cell::from(*title)
        })
        .collect();
    let rows: Vec<Vec<Cell>> = std::iter::once(head).chain(rows).collect();
    let length = |text: &str| text.chars().count();
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let widest = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| length(&cell.text)).max();
    let mut widths: Vec<usize> = (0..columns).map(|at| widest(at).unwrap_or_default()).collect();
    for at in [0, columns.saturating_sub(1)] {
        let total = widths.iter().sum::<usize>() + 2 * columns.saturating_sub(1);
        if let Some(width) = widths.get_mut(at) {
            *width = width.saturating_sub(total.saturating_sub(WIDTH)).max(LEAST.min(*width));
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let shown = match cell.text.char_indices().nth(*width) {
                None => cell.text.clone(),
                Some(_) => cell.text.chars().take(width - 1).chain(['~']).collect(),
            };
            let room = " ".repeat(width - length(&shown));
            let shown = painted(&shown, cell.paint, colours);
            line += if at == 0 { "" } else { "  " };
            line += &if cell.right { format!("{room}{shown}") } else { format!("{shown}{room}") };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// A time span for people: `4.2s`, `12m05s`, `3h07m`, `12d04h`.
pub(super) fn span(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0..10 => format!("{seconds:.1}s"),
        10..60 => format!("{whole}s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        3600..86_400 => format!("{}h{:02}m", whole / 3600, whole / 60 % 60),
        _ => format!("{}d{:02}h", whole / 86_400, whole / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_fits_eighty_columns() {
        let row = |name: &str, state: &str, text: &str| {
            vec![name.into(), Cell::from(state).paint(Paint::Bad), Cell::number("7"), text.into()]
        };
        let rows = vec![row("a", "up", "x"), row(&"n".repeat(70), "failed", &"y".repeat(60))];
        let text = table(&["NAME", "STATE", "PID", "WHY"], rows, false);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.starts_with("NAME          STATE   PID  WHY\na             up        7  x\n"), "{text}");
        assert!(text.contains("nnnnnnnnnnn~  failed    7  yyy"), "{text}");
        let coloured = table(&["NAME", "STATE"], vec![row("a", "up", "")], true);
        assert!(coloured.contains("a     \x1b[31mup\x1b[0m"), "{coloured:?}");
    }

    #[test]
    fn spans_for_people() {
        let told: Vec<String> = [0.0, 4.24, 59.9, 725.0, 11_220.0, 1_051_200.0].map(span).into();
        assert_eq!(told, ["0.0s", "4.2s", "59s", "12m05s", "3h07m", "12d04h"]);
    }
}
