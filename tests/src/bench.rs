// SPDX-License-Identifier: Apache-2.0
//! What a boot spends its time on, read off the serial console.
//!
//! The times are the host's, taken when a line's first byte came: the guest's
//! clock is not asked, and what is measured is what a person would see.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use regex::Regex;
use serde_json::{Value, json};

use crate::console::Line;

/// Where the clock starts: the kernel's line before it starts `/init`.
pub const ZERO: &str = "Run /init as init process";

/// What a line has to look like to be a milestone of the boot; the first group,
/// where there is one, is the name of whose milestone it is.
const MILESTONES: &[(&str, &str)] = &[
    ("kernel", r"Linux version \d"),
    ("/init", "^Run /init as init process|[]] Run /init as init process"),
    ("first line", r"^(?:lkinit|reference): \["),
    ("onboot, done", r"^(?:lkinit|reference): \[.*?\] onboot (\S+): done in"),
    ("containerd ready", r"^(?:lkinit|reference): \[.*?\] containerd: \S+ ready in"),
    ("service, running", r"^(?:lkinit|reference): \[.*?\] service (\S+): running"),
];

/// The configuration that the others are compared with.
pub const REFERENCE: &str = "reference";

static EXPRESSIONS: LazyLock<Vec<(&str, Regex)>> = LazyLock::new(|| {
    let compile = |regex| Regex::new(regex).unwrap_or_else(|e| unreachable!("a constant: {e}"));
    MILESTONES.iter().map(|(name, regex)| (*name, compile(regex))).collect()
});

/// One boot: milestones in the order they came, with seconds since `/init` was
/// started (before that: negative). Each milestone counts once, the first time.
#[derive(Clone, Debug, PartialEq)]
pub struct Run(pub Vec<(String, f64)>);

impl Run {
    /// Reads a boot off its console; none without the kernel's line.
    pub fn read(lines: &[Line]) -> Option<Self> {
        let zero = lines.iter().find(|line| line.text.contains(ZERO))?.at;
        let mut run = Self(Vec::new());
        for line in lines {
            for (name, regex) in EXPRESSIONS.iter() {
                let Some(groups) = regex.captures(&line.text) else { continue };
                let name = match groups.get(1) {
                    Some(whose) => format!("{name}: {}", whose.as_str()),
                    None => (*name).to_owned(),
                };
                if run.get(&name).is_none() {
                    run.0.push((name, since(line.at, zero)));
                }
            }
        }
        Some(run)
    }

    /// When the milestone was reached.
    pub fn get(&self, milestone: &str) -> Option<f64> {
        self.0.iter().find(|(name, _)| name == milestone).map(|&(_, at)| at)
    }

    /// When the last service ran.
    pub fn end(&self) -> Option<f64> {
        let services = self.0.iter().filter(|(name, _)| name.starts_with("service"));
        services.map(|&(_, at)| at).reduce(f64::max)
    }
}

fn since(at: Duration, zero: Duration) -> f64 {
    at.as_secs_f64() - zero.as_secs_f64()
}

/// Several boots of one configuration.
#[derive(Clone, Debug)]
pub struct Series {
    /// The configuration's name.
    pub name: String,
    /// How many times as fast as the reference the last service is meant to be.
    pub goal: Option<f64>,
    /// The boots.
    pub runs: Vec<Run>,
}

impl Series {
    /// The milestones in the order most boots reach them, and their medians.
    pub fn medians(&self) -> Vec<(String, f64)> {
        let mut all: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for (name, at) in self.runs.iter().flat_map(|run| &run.0) {
            all.entry(name).or_default().push(*at);
        }
        let medians = all.into_iter().filter_map(|(name, times)| Some((name.to_owned(), median(times)?)));
        let mut medians: Vec<_> = medians.collect();
        medians.sort_by(|(_, a), (_, b)| a.total_cmp(b));
        medians
    }

    /// The median of the ends.
    pub fn end(&self) -> Option<f64> {
        median(self.runs.iter().filter_map(Run::end).collect())
    }

    /// For `target/bench/NAME.json`: medians and every boot, in seconds.
    pub fn to_json(&self) -> Value {
        let object = |times: &[(String, f64)]| -> Value {
            let rounded =
                times.iter().map(|(name, at)| (name.clone(), json!((at * 1000.0).round() / 1000.0)));
            Value::Object(rounded.collect())
        };
        json!({
            "configuration": self.name,
            "unit": "seconds since the kernel started /init",
            "goal": self.goal,
            "end": self.end(),
            "medians": object(&self.medians()),
            "runs": self.runs.iter().map(|run| object(&run.0)).collect::<Vec<_>>(),
        })
    }
}

fn median(mut times: Vec<f64>) -> Option<f64> {
    times.sort_by(f64::total_cmp);
    let middle = times.len() / 2;
    let upper = *times.get(middle)?;
    Some(if times.len() % 2 == 1 { upper } else { (times[middle - 1] + upper) / 2.0 })
}

/// A table: a row a milestone, a column a configuration, medians in seconds
/// since `/init` was started; last what it is meant to be.
pub fn table(series: &[Series]) -> String {
    let columns: Vec<_> = series.iter().map(|s| (s, s.medians())).collect();
    let mut rows: Vec<&str> = Vec::new();
    for (name, _) in columns.iter().flat_map(|(_, medians)| medians) {
        if !rows.contains(&name.as_str()) {
            rows.push(name);
        }
    }
    // Rows in the order of the first configuration that has both.
    rows.sort_by_key(|row| MILESTONES.iter().position(|(name, _)| row.starts_with(name)));
    let wide = rows.iter().map(|row| row.len()).max().unwrap_or(0).max("as fast as the reference".len());
    let widths: Vec<_> = series.iter().map(|s| s.name.len().max(8)).collect();
    let line = |title: &str, cells: Vec<String>| {
        let cells = cells.iter().zip(&widths).map(|(cell, &width)| format!("  {cell:>width$}"));
        format!("{title:wide$}{}\n", cells.collect::<String>())
    };
    let seconds = |at: Option<f64>| at.map_or_else(|| "-".to_owned(), |at| format!("{at:.3}"));
    let mut text = line("", series.iter().map(|s| s.name.clone()).collect());
    for row in rows {
        let cell =
            |medians: &[(String, f64)]| medians.iter().find(|(name, _)| name == row).map(|&(_, at)| at);
        text += &line(row, columns.iter().map(|(_, medians)| seconds(cell(medians))).collect());
    }
    text += &line("last service", series.iter().map(|s| seconds(s.end())).collect());
    let reference = series.iter().find(|s| s.name == REFERENCE).and_then(Series::end);
    let times = |times: Option<f64>| times.map_or_else(|| "-".to_owned(), |times| format!("{times:.2}x"));
    let ratio = |s: &Series| Some(reference? / s.end()?);
    text += &line("as fast as the reference", series.iter().map(|s| times(ratio(s))).collect());
    text += &line("as fast, goal", series.iter().map(|s| times(s.goal)).collect());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[(u64, &str)]) -> Vec<Line> {
        text.iter().map(|&(ms, text)| Line { at: Duration::from_millis(ms), text: text.into() }).collect()
    }

    fn boot(ready: u64) -> Run {
        Run::read(&lines(&[
            (1000, "[    0.000000] Linux version 6.1.0"),
            (3000, "[    2.100000] Run /init as init process"),
            (3100, "lkinit: [ 2.200] boot"),
            (3400, "lkinit: [ 2.500] onboot 000-sysctl: done in 0.031s"),
            (ready, "lkinit: [ 2.900] containerd: 1.6.20 ready in 0.500s"),
            (6000, "lkinit: [ 5.000] service b: running (process 9)"),
            (7000, "lkinit: [ 6.000] service a: running (process 8)"),
            (9000, "lkinit: [ 8.000] service a: running (process 10)"),
        ]))
        .unwrap()
    }

    fn doubled(run: &Run) -> Run {
        Run(run.0.iter().map(|(name, at)| (name.clone(), at * 2.0)).collect())
    }

    #[test]
    fn the_clock_starts_with_init_and_a_milestone_counts_once() {
        let run = boot(4000);
        let near = |milestone: &str, at: f64| {
            let found = run.get(milestone).unwrap();
            assert!((found - at).abs() < 1e-9, "{milestone}: {found}");
        };
        near("kernel", -2.0);
        near("/init", 0.0);
        near("first line", 0.1);
        near("onboot, done: 000-sysctl", 0.4);
        near("containerd ready", 1.0);
        near("service, running: a", 4.0);
        assert_eq!(run.end(), Some(4.0));
        assert_eq!(Run::read(&lines(&[(0, "SeaBIOS")])), None);
    }

    #[test]
    fn medians_are_by_milestone() {
        let runs = vec![boot(4000), boot(5000), boot(4500)];
        let series = Series { name: "x".into(), goal: Some(1.5), runs };
        let medians = series.medians();
        assert!(medians.contains(&("containerd ready".to_owned(), 1.5)), "{medians:?}");
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
        let text = table(std::slice::from_ref(&series));
        assert!(text.contains("last service"), "{text}");
        let slower = Series { name: REFERENCE.into(), goal: None, runs: vec![boot(4000)] };
        let slower = Series { runs: slower.runs.iter().map(doubled).collect(), ..slower };
        let text = table(&[slower, series.clone()]);
        assert!(text.contains("1.00x") && text.contains("2.00x") && text.contains("1.50x"), "{text}");
        assert_eq!(series.to_json()["medians"]["containerd ready"], json!(1.5));
    }
}
