// SPDX-License-Identifier: Apache-2.0
//! Which module can be loaded now: the plans of several requests merged into
//! one graph, each module in it once. No thread and no kernel in here.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::name::ModuleName;
use super::plan::Step;

/// How a module ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It is loaded.
    Live,
    /// There is nothing on this machine that it drives.
    NoDevice,
    /// The configuration forbids it.
    Forbidden,
    /// It could not be loaded.
    Failed,
}

/// A module that came to its end without being tried, since one that it needs
/// did not get loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blocked {
    /// What was to be loaded.
    pub step: Arc<Step>,
    /// The module that it needs.
    pub need: ModuleName,
    /// How that one ended.
    pub end: End,
}

/// A place in the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket(usize);

/// The modules that were ever asked for, and what waits for what.
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: Vec<Node>,
    index: HashMap<ModuleName, usize>,
    ready: VecDeque<usize>,
}

#[derive(Debug)]
struct Node {
    step: Arc<Step>,
    waits: usize,
    followers: Vec<Edge>,
    blocker: Option<(ModuleName, End)>,
    end: Option<End>,
}

#[derive(Debug, Clone, Copy)]
struct Edge {
    to: usize,
    needed: bool,
}

impl Graph {
    /// Adds the steps of a plan. One that is under way already is not begun a
    /// second time; one that has ended is tried `again`, or left as it is.
    /// Returns those that end at once.
    pub(super) fn add(&mut self, steps: Vec<Step>, again: bool) -> Vec<Blocked> {
        let mut blocked = Vec::new();
        for step in steps {
            let node =
                Node { step: Arc::new(step), waits: 0, followers: Vec::new(), blocker: None, end: None };
            let known = self.index.get(&node.step.name).copied();
            match known.and_then(|id| self.nodes.get_mut(id).map(|old| (id, old))) {
                Some((_, old)) if old.end.is_none() || !again => {}
                Some((id, old)) => {
                    *old = node;
                    self.connect(id, &mut blocked);
                }
                None => {
                    let id = self.nodes.len();
                    self.index.insert(node.step.name.clone(), id);
                    self.nodes.push(node);
                    self.connect(id, &mut blocked);
                }
            }
        }
        blocked
    }

    /// Makes a new node wait for what comes before it. Edges lead from older
    /// nodes, or earlier ones of the plan, to newer ones: there are no circles.
    fn connect(&mut self, id: usize, blocked: &mut Vec<Blocked>) {
        let Some(step) = self.nodes.get(id).map(|node| Arc::clone(&node.step)) else { return };
        let before =
            step.needs.iter().map(|name| (name, true)).chain(step.after.iter().map(|name| (name, false)));
        let (mut waits, mut blocker) = (0, None);
        for (name, needed) in before {
            // A need that is in no plan is built in, or the kernel will say what it misses.
            let Some(other) = self.index.get(name).copied().filter(|other| *other != id) else { continue };
            let Some(other) = self.nodes.get_mut(other) else { continue };
            match other.end {
                None => {
                    other.followers.push(Edge { to: id, needed });
                    waits += 1;
                }
                Some(End::Live) => {}
                Some(end) if needed => blocker = Some((name.clone(), end)),
                Some(_) => {}
            }
        }
        if let Some(node) = self.nodes.get_mut(id) {
            (node.waits, node.blocker) = (waits, blocker);
        }
        if waits == 0 {
            self.release(id, blocked);
        }
    }

    /// Lets a node go that waits for nothing any more: to be loaded, or to
    /// its end with all that hangs on it.
    fn release(&mut self, id: usize, blocked: &mut Vec<Blocked>) {
        let mut free = vec![id];
        while let Some(id) = free.pop() {
            match self.nodes.get(id).map(|node| (Arc::clone(&node.step), node.blocker.clone())) {
                Some((step, Some((need, end)))) => {
                    blocked.push(Blocked { step, need, end });
                    self.end(id, end, &mut free);
                }
                _ => self.ready.push_back(id),
            }
        }
    }

    /// Writes down how a node ended, and finds those that waited for it alone.
    fn end(&mut self, id: usize, end: End, free: &mut Vec<usize>) {
        let Some(node) = self.nodes.get_mut(id) else { return };
        node.end = Some(end);
        let name = node.step.name.clone();
        let first = free.len();
        for edge in std::mem::take(&mut node.followers) {
            if let Some(follower) = self.nodes.get_mut(edge.to) {
                follower.waits -= 1;
                if edge.needed && end != End::Live {
                    follower.blocker = Some((name.clone(), end));
                }
                if follower.waits == 0 {
                    free.push(edge.to);
                }
            }
        }
        // Taken from the end: the first that waited goes first.
        if let Some(new) = free.get_mut(first..) {
            new.reverse();
        }
    }

    /// Takes the next module that can be loaded: the one with the most to be
    /// loaded behind it, so that the longest row is not begun last.
    pub(super) fn next(&mut self) -> Option<(Ticket, Arc<Step>)> {
        let id = self.ready.remove(self.heaviest()?)?;
        self.nodes.get(id).map(|node| (Ticket(id), Arc::clone(&node.step)))
    }

    /// Where in `ready` that one is; of several, the first.
    fn heaviest(&self) -> Option<usize> {
        // Edges lead to newer nodes; for the few that are tried again, and have
        // kept their place, this is an estimate.
        let mut weights = vec![0; self.nodes.len()];
        for (id, node) in self.nodes.iter().enumerate().rev() {
            let behind = node.followers.iter().filter_map(|edge| weights.get(edge.to)).max();
            let weight = node.step.size + 1 + behind.copied().unwrap_or(0);
            if let Some(place) = weights.get_mut(id) {
                *place = weight;
            }
        }
        let ready = self.ready.iter().enumerate();
        ready.min_by_key(|(_, id)| Reverse(weights.get(**id))).map(|(at, _)| at)
    }

    /// Takes note of how one that [`next`](Self::next) gave out has ended.
    /// Returns those that end with it.
    pub(super) fn finish(&mut self, ticket: Ticket, end: End) -> Vec<Blocked> {
        let mut blocked = Vec::new();
        let mut free = Vec::new();
        self.end(ticket.0, end, &mut free);
        while let Some(id) = free.pop() {
            self.release(id, &mut blocked);
        }
        blocked
    }

    /// How many modules can be loaded now.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }
}

#[cfg(test)]
#[path = "graph_tests.rs"]
mod tests;
