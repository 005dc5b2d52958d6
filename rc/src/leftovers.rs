// SPDX-License-Identifier: Apache-2.0
//! Containers that could not be removed in time, because what runs containers
//! did not answer. Each is removed as soon as that is possible, and none of
//! its name is made before that.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::sync::Mutex;

use crate::engine::{Engine, Error, Id};

/// Containers that are still to be removed; cheap to clone. Two never see to
/// the same one at once: the second might remove what has been made anew.
#[derive(Clone, Default)]
pub struct Leftovers(Rc<RefCell<BTreeMap<Id, Rc<Mutex<()>>>>>);

impl Leftovers {
    /// This container, or what may still become of its start, is to be removed.
    pub fn add(&self, id: Id) {
        self.0.borrow_mut().entry(id).or_default();
    }

    /// Removes a container, if it is one that is still to be removed.
    ///
    /// # Errors
    /// The engine's. It stays to be removed.
    pub async fn clear(&self, engine: &dyn Engine, id: &Id) -> Result<(), Error> {
        let Some(lock) = self.0.borrow().get(id).cloned() else { return Ok(()) };
        let _one = lock.lock().await;
        if !self.0.borrow().contains_key(id) {
            return Ok(());
        }
        match engine.discard(id).await {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
        self.0.borrow_mut().remove(id);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::process::Command;

    use tokio::sync::Notify;
    use tokio::task::{LocalSet, spawn_local, yield_now};

    use super::*;
    use crate::engine::{Answer, Exec, Exit, Found, Job};

    /// Answers each request to remove something when it is told to.
    #[derive(Default)]
    struct Slow {
        answer: Notify,
        asked: Cell<u32>,
    }

    impl Engine for Slow {
        fn name(&self) -> &'static str {
            "slow"
        }
        fn create<'a>(&'a self, _: Job<'a>) -> Answer<'a, u32> {
            Box::pin(std::future::pending())
        }
        fn start<'a>(&'a self, _: &'a Id) -> Answer<'a, ()> {
            Box::pin(std::future::pending())
        }
        fn wait<'a>(&'a self, _: &'a Id) -> Answer<'a, Exit> {
            Box::pin(async { Ok(Exit::LOST) })
        }
        fn kill<'a>(&'a self, _: &'a Id, _: i32, _: bool) -> Answer<'a, ()> {
            Box::pin(async { Ok(()) })
        }
        fn exec(&self, _: &Id, _: Exec<'_>) -> Result<Command, Error> {
            Ok(Command::new("true"))
        }
        fn delete<'a>(&'a self, _: &'a Id) -> Answer<'a, ()> {
            self.asked.set(self.asked.get() + 1);
            Box::pin(async {
                self.answer.notified().await;
                Ok(())
            })
        }
        fn list<'a>(&'a self, _: &'a str) -> Answer<'a, Vec<Found>> {
            Box::pin(async { Ok(Vec::new()) })
        }
    }

    #[test]
    fn one_at_a_time_removes_it_and_the_others_wait_for_that() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let (left, engine) = (Leftovers::default(), Rc::new(Slow::default()));
            let id = Id { namespace: "n".to_owned(), name: "x".to_owned() };
            left.clear(engine.as_ref(), &id).await.unwrap();
            assert_eq!(engine.asked.get(), 0, "there was nothing to remove");
            left.add(id.clone());
            let clear = || {
                let (left, engine, id) = (left.clone(), engine.clone(), id.clone());
                spawn_local(async move { left.clear(engine.as_ref(), &id).await.unwrap() })
            };
            // The first one is given up, as a start is whose time is over.
            let given_up = clear();
            yield_now().await;
            given_up.abort();
            let (first, second) = (clear(), clear());
            for _ in 0..10 {
                yield_now().await;
            }
            assert!(!first.is_finished() && !second.is_finished());
            engine.answer.notify_one();
            first.await.unwrap();
            second.await.unwrap();
            assert_eq!(engine.asked.get(), 2);
            left.clear(engine.as_ref(), &id).await.unwrap();
            assert_eq!(engine.asked.get(), 2, "it was removed already");
        });
    }
}
