use std::{
    fmt::{self, Debug, Formatter},
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::watch, task::JoinSet};

use super::{
    Counts, Flow, Scan, Tally,
    faults::{Action, Faults},
};

/// The state that a proxy and its connections share.
pub(super) struct Controls {
    faults: Mutex<Faults>,
    tallies: Mutex<Vec<TallySource>>,
    counts: watch::Sender<Counts>,
    connections: Mutex<JoinSet<()>>,
}

/// A tally, and the function that creates scanners for it.
struct TallySource {
    flow: Flow,
    tally: Tally,
    scanner: Box<dyn Fn() -> Box<dyn Scan> + Send>,
}

/// When a connection was used last. `None` once the connection is forgotten.
pub(super) struct LastUse(Mutex<Option<Instant>>);

impl LastUse {
    pub(super) fn now() -> Self {
        Self(Mutex::new(Some(Instant::now())))
    }

    pub(super) fn is_forgotten(&self) -> bool {
        lock(&self.0).is_none()
    }
}

/// The scanners of one direction of one connection.
#[derive(Default)]
pub(super) struct Scanners {
    /// The number of tallies at the last scan. It only increases.
    known: usize,
    scanners: Vec<(Tally, Box<dyn Scan>)>,
}

impl Controls {
    pub(super) fn new() -> Self {
        Self {
            faults: Mutex::default(),
            tallies: Mutex::default(),
            counts: watch::Sender::default(),
            connections: Mutex::default(),
        }
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, Faults> {
        lock(&self.faults)
    }

    pub(super) fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Counts)) {
        self.counts.send_modify(change);
    }

    pub(super) async fn until(&self, reached: impl FnMut(&Counts) -> bool + Send) -> Counts {
        let mut counts = self.counts.subscribe();
        // The channel is open as long as `self`, which holds the sender.
        let last = counts.wait_for(reached).await.map(|counts| *counts);
        last.unwrap_or_else(|_| self.counts())
    }

    /// Runs a connection until it ends or is cut.
    pub(super) fn spawn(&self, connection: impl Future<Output = ()> + Send + 'static) {
        self.count(|counts| counts.connections += 1);
        let mut connections = lock(&self.connections);
        while connections.try_join_next().is_some() {}
        connections.spawn(connection);
    }

    pub(super) async fn cut_all(&self) -> usize {
        let mut connections = mem::take(&mut *lock(&self.connections));
        while connections.try_join_next().is_some() {}
        let open = connections.len();
        connections.shutdown().await;
        self.count(|counts| counts.cut_all += open as u64);
        open
    }

    /// Aborts all connections without waiting until they are closed.
    pub(super) fn abort_all(&self) {
        lock(&self.connections).abort_all();
    }

    /// Records that a connection is used, and returns whether the connection is forgotten.
    pub(super) fn has_forgotten(&self, last_use: &LastUse) -> bool {
        let limit = self.faults().idle_limit;
        let mut last = lock(&last_use.0);
        let Some(before) = *last else { return true };
        if limit.is_some_and(|limit| before.elapsed() > limit) {
            *last = None;
            self.count(|counts| counts.forgotten += 1);
        } else {
            *last = Some(Instant::now());
        }
        last.is_none()
    }

    /// Decides what to do with bytes that were read, and for how long to delay them.
    pub(super) fn decide(&self, flow: Flow, bytes: &[u8]) -> (Action, Duration) {
        let (action, delay) = {
            let mut faults = self.faults();
            (faults.decide(flow, bytes), faults.delay)
        };
        self.count(|counts| {
            let length = bytes.len() as u64;
            let (reads, read_bytes) = match flow {
                Flow::Requests => (&mut counts.requests, &mut counts.request_bytes),
                Flow::Replies => (&mut counts.replies, &mut counts.reply_bytes),
            };
            *reads += 1;
            *read_bytes += length;
            match action {
                Action::Pass if !delay.is_zero() => counts.delayed += 1,
                Action::Swallow => counts.swallowed += 1,
                Action::CutBefore => counts.cut_before += 1,
                Action::Tear(_) => counts.limited += 1,
                // A cut after a request is counted when the request was answered.
                Action::Pass | Action::CutAfter => {}
            }
        });
        (action, delay)
    }

    pub(super) fn add_tally<S: Scan>(
        &self,
        flow: Flow,
        scanner: impl Fn() -> S + Send + 'static,
    ) -> Tally {
        let tally = Tally::default();
        lock(&self.tallies).push(TallySource {
            flow,
            tally: tally.clone(),
            scanner: Box::new(move || Box::new(scanner())),
        });
        tally
    }

    pub(super) fn scan(&self, flow: Flow, bytes: &[u8], scanners: &mut Scanners) {
        let tallies = lock(&self.tallies);
        let new = tallies[scanners.known..].iter();
        let new = new.filter(|source| source.flow == flow);
        let new = new.map(|source| (source.tally.clone(), (source.scanner)()));
        scanners.scanners.extend(new);
        scanners.known = tallies.len();
        drop(tallies);
        for (tally, scanner) in &mut scanners.scanners {
            tally.add(scanner.scan(bytes));
        }
    }
}

impl Debug for Controls {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Controls");
        shown.field("faults", &self.faults());
        shown.field("counts", &self.counts()).finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
