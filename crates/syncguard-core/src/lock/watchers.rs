//! The tasks that watch a queue, one for each runtime on which a task waits.

use std::task::Waker;

use tokio::runtime::Id;

/// The runtimes that have a watcher, and the wakers of those watchers that wait.
#[derive(Default)]
pub(super) struct Watchers(Vec<(Id, Option<Waker>)>);

impl Watchers {
    /// Lists a watcher for a runtime. Returns false if the runtime already has one.
    pub(super) fn add(&mut self, runtime: Id) -> bool {
        let unwatched = self.0.iter().all(|(id, _)| *id != runtime);
        if unwatched {
            self.0.push((runtime, None));
        }
        unwatched
    }

    pub(super) fn remove(&mut self, runtime: Id) -> Option<Waker> {
        let index = self.0.iter().position(|(id, _)| *id == runtime)?;
        self.0.swap_remove(index).1
    }

    /// Keeps the waker of a watcher that waits.
    pub(super) fn wait(&mut self, runtime: Id, waker: &Waker) {
        let own = self.0.iter_mut().find(|(id, _)| *id == runtime);
        if let Some((_, slot)) = own {
            *slot = Some(waker.clone());
        }
    }

    pub(super) fn take_wakers(&mut self) -> Vec<Waker> {
        self.0.iter_mut().filter_map(|(_, waker)| waker.take()).collect()
    }
}
