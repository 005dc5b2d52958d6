// SPDX-License-Identifier: Apache-2.0
//! Where the boot's time goes, written down while it goes there.
//!
//! A lane does one step after the other: the boot itself, containerd, a
//! container. A step knows which steps had to end before it could begin: the
//! one before it in its lane, and what the lane was told to wait for. The
//! critical path is found by these, not by guessing from times.
//!
//! A line of JSON is appended to `/run/lkinit/timeline` when a step begins and
//! another when it ends, so an rc that is started again goes on with the
//! record, and a boot that hangs can be looked at. See docs/boot-chart.md.

pub mod chart;
pub mod kernel;
pub mod path;
pub mod rows;
pub mod table;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod view_tests;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use init::sys::clock::since_boot;
use serde::{Deserialize, Serialize};

/// A step that only waits for others: it is never what others wait for.
pub const WAITING: &str = "waiting";

/// The boot's own lane.
pub const BOOT: &str = "boot";

/// The lane of the devices, whose modules have lanes of their own.
pub const DEVICES: &str = "devices";

/// containerd's lane.
pub const CONTAINERD: &str = "containerd";

/// What the lanes of services begin with.
const SERVICE: &str = "service ";

/// The last step of a boot.
const DONE: &str = "done";

/// One step: what, when, and what it had to wait for. Times are microseconds
/// since the kernel started (`CLOCK_BOOTTIME`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Who did it: `boot`, `containerd`, `module NAME`, `script NAME`,
    /// `onboot NNN-NAME`, `service NAME`.
    pub lane: String,
    /// What.
    pub name: String,
    /// When it began.
    pub start: u64,
    /// When it ended; `None`: it is under way.
    pub end: Option<u64>,
    /// The steps without whose end it could not begin.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
    /// What a module was wanted for.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub wanted: Option<String>,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

impl Span {
    /// A step that is over.
    pub fn over(lane: &str, name: &str, start: Duration, end: Duration) -> Self {
        Self {
            lane: lane.to_owned(),
            name: name.to_owned(),
            start: micros(start),
            end: Some(micros(end)),
            after: Vec::new(),
            wanted: None,
            failed: None,
        }
    }

    /// `LANE/NAME`: no other step of the boot has it.
    pub fn id(&self) -> String {
        id(&self.lane, &self.name)
    }

    /// Its end, or `now` while it is under way.
    pub fn end_or(&self, now: u64) -> u64 {
        self.end.unwrap_or(now).max(self.start)
    }
}

fn id(lane: &str, name: &str) -> String {
    format!("{lane}/{name}")
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Now, as spans count.
pub fn now() -> u64 {
    micros(since_boot())
}

#[derive(Default)]
struct Book {
    spans: Vec<Span>,
    /// What each lane's next step has to wait for.
    waits: HashMap<String, Vec<String>>,
    /// The step, or the steps, that the boot has come to.
    front: Vec<String>,
    /// The boot is over: nothing is noted any more.
    closed: bool,
}

/// The record of a boot; cheap to clone.
#[derive(Clone)]
pub struct Timeline {
    book: Rc<RefCell<Book>>,
    file: Option<Rc<File>>,
}

impl Timeline {
    /// Goes on with the record in `path`, or begins it.
    ///
    /// # Errors
    /// Those of opening the file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let spans = load(path).unwrap_or_default();
        let mut book = Book::of(spans);
        book.close_if_over();
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { book: Rc::new(RefCell::new(book)), file: Some(Rc::new(file)) })
    }

    /// A record that nobody keeps: for steps that are not part of a boot.
    pub fn forgetful() -> Self {
        Self { book: Rc::new(RefCell::new(Book { closed: true, ..Book::default() })), file: None }
    }

    /// A step begins. One that was done before, in this boot, is not noted
    /// again; after the boot no lane is added, and with the first step that
    /// is not its own the record is closed.
    pub fn begin(&self, lane: &str, name: &str) {
        self.begin_at(lane, name, since_boot());
    }

    /// As [`Self::begin`], for a step that has begun already.
    pub fn begin_at(&self, lane: &str, name: &str, start: Duration) {
        let mut book = self.book.borrow_mut();
        let late = book.knows(BOOT, DONE) && book.spans.iter().all(|span| span.lane != lane);
        if book.closed || late || book.knows(lane, name) {
            book.close_if_over();
            return;
        }
        // Waiting takes nothing away from the step it waits for.
        let after = match name {
            WAITING => book.waits.get(lane).cloned(),
            _ => book.waits.remove(lane),
        };
        let (lane, name) = (lane.to_owned(), name.to_owned());
        let after = after.unwrap_or_default();
        let start = micros(start);
        let span = Span { lane, name, start, end: None, after, wanted: None, failed: None };
        self.note(&span);
        book.spans.push(span);
    }

    /// A step has ended well.
    pub fn end(&self, lane: &str, name: &str) {
        self.finish(lane, name, None);
    }

    /// A step has ended badly.
    pub fn fail(&self, lane: &str, name: &str, why: impl Display) {
        self.finish(lane, name, Some(why.to_string()));
    }

    fn finish(&self, lane: &str, name: &str, failed: Option<String>) {
        let mut book = self.book.borrow_mut();
        let open = |span: &&mut Span| span.lane == lane && span.name == name && span.end.is_none();
        let Some(span) = book.spans.iter_mut().find(open) else { return };
        span.end = Some(now());
        span.failed = failed;
        self.note(span);
        if name != WAITING {
            book.waits.insert(lane.to_owned(), vec![id(lane, name)]);
        }
    }

    /// Adds a step that is over and was timed by somebody else.
    pub fn add(&self, span: Span) {
        let mut book = self.book.borrow_mut();
        if book.closed || book.knows(&span.lane, &span.name) {
            return;
        }
        self.note(&span);
        book.waits.insert(span.lane.clone(), vec![span.id()]);
        book.spans.push(span);
    }

    /// What was wanted for one of these had to wait for a step of another
    /// lane, too.
    pub fn wanted_after(&self, found: &[(String, String)]) {
        let mut book = self.book.borrow_mut();
        let wanted: Vec<Option<String>> = book.spans.iter().map(|span| book.wanted_for(span)).collect();
        for (span, wanted) in book.spans.iter_mut().zip(wanted) {
            let own = span.id();
            let known = span.after.len();
            for (what, id) in found {
                if wanted.as_ref() == Some(what) && *id != own && !span.after.contains(id) {
                    span.after.push(id.clone());
                }
            }
            if span.after.len() > known {
                self.note(span);
            }
        }
    }

    /// A lane's next step has to wait for what another lane did last.
    pub fn wait(&self, lane: &str, other: &str) {
        let mut book = self.book.borrow_mut();
        let ids = book.waits.get(other).cloned().unwrap_or_default();
        book.wait(lane, ids);
    }

    /// A lane's next step has to wait for what the boot has come to.
    pub fn follow(&self, lane: &str) {
        let mut book = self.book.borrow_mut();
        let ids = book.front.clone();
        book.wait(lane, ids);
    }

    /// The boot has come to what a lane did last.
    pub fn lead(&self, lane: &str) {
        let mut book = self.book.borrow_mut();
        if let Some(ids) = book.waits.get(lane).cloned() {
            book.front = ids;
        }
    }

    /// What comes now had to wait for what a lane did last, too.
    pub fn join(&self, lane: &str) {
        let mut book = self.book.borrow_mut();
        for id in book.waits.get(lane).cloned().unwrap_or_default() {
            if !book.front.contains(&id) {
                book.front.push(id);
            }
        }
    }

    /// A step of the boot itself: after what it has come to, and what comes
    /// after has to wait for it.
    pub fn step<T>(&self, name: &str, work: impl FnOnce() -> T) -> T {
        self.follow(BOOT);
        self.begin(BOOT, name);
        let result = work();
        self.end(BOOT, name);
        self.lead(BOOT);
        result
    }

    /// The boot is done; `before` tells what was before rc. Services may
    /// still be getting ready.
    pub fn done(&self, before: impl FnOnce() -> Vec<Span>) {
        let at = since_boot();
        before().into_iter().for_each(|span| self.add(span));
        // Every service has come up, or has failed: that is what it waited for.
        let services: Vec<String> = self.book.borrow().services().map(str::to_owned).collect();
        services.iter().for_each(|lane| self.join(lane));
        self.follow(BOOT);
        let mut span = Span::over(BOOT, DONE, at, at);
        span.after = self.book.borrow_mut().waits.remove(BOOT).unwrap_or_default();
        self.add(span);
    }

    fn note(&self, span: &Span) {
        let Some(mut file) = self.file.as_deref() else { return };
        if let Ok(mut line) = serde_json::to_string(span) {
            line.push('\n');
            // One write(2) a line. Without it the chart lacks a bar: no
            // reason to stop.
            let _ = file.write_all(line.as_bytes());
        }
    }
}

impl Book {
    /// Where an earlier life of rc has left the boot.
    fn of(spans: Vec<Span>) -> Self {
        let mut book = Self::default();
        let mut over: Vec<&Span> = spans.iter().filter(|span| span.end.is_some()).collect();
        over.sort_by_key(|span| span.end);
        for span in over.into_iter().filter(|span| span.name != WAITING) {
            book.waits.insert(span.lane.clone(), vec![span.id()]);
            book.front = vec![span.id()];
        }
        book.spans = spans;
        book
    }

    fn knows(&self, lane: &str, name: &str) -> bool {
        self.spans.iter().any(|span| span.lane == lane && span.name == name)
    }

    /// What a step was wanted for in the end: a module may be wanted for
    /// another one.
    fn wanted_for(&self, span: &Span) -> Option<String> {
        let mut wanted = span.wanted.as_ref()?;
        // No chain is longer than there are steps, were it a ring.
        for _ in &self.spans {
            let lane = format!("module {wanted}");
            match self.spans.iter().find(|span| span.lane == lane).and_then(|span| span.wanted.as_ref()) {
                Some(next) => wanted = next,
                None => break,
            }
        }
        Some(wanted.clone())
    }

    /// The lanes of services.
    fn services(&self) -> impl Iterator<Item = &str> {
        self.waits.keys().map(String::as_str).filter(|lane| lane.starts_with(SERVICE))
    }

    fn wait(&mut self, lane: &str, ids: Vec<String>) {
        let waits = self.waits.entry(lane.to_owned()).or_default();
        for id in ids {
            if !waits.contains(&id) {
                waits.push(id);
            }
        }
    }

    /// The record is in the file; memory is not for what is over.
    fn close_if_over(&mut self) {
        if self.knows(BOOT, DONE) && self.spans.iter().all(|span| span.end.is_some()) {
            *self = Self { closed: true, ..Self::default() };
        }
    }
}

/// Reads a record. A line that is not whole is left out.
///
/// # Errors
/// Those of reading the file.
pub fn load(path: &Path) -> io::Result<Vec<Span>> {
    Ok(parse(&fs::read_to_string(path)?))
}

/// As [`load`], of a text: the last line of a step is the one that counts.
pub fn parse(text: &str) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for span in text.lines().filter_map(|line| serde_json::from_str::<Span>(line).ok()) {
        match spans.iter_mut().find(|known| known.lane == span.lane && known.name == span.name) {
            Some(known) => *known = span,
            None => spans.push(span),
        }
    }
    spans
}
