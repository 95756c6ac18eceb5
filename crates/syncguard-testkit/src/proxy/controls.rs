use std::{
    fmt::{self, Debug, Formatter},
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::watch, task::JoinSet};

use super::{
    Counts, Flow, Scan, Tally,
    faults::{Faults, Verdict},
};

/// What a proxy and its connections share.
pub(super) struct Controls {
    faults: Mutex<Faults>,
    tallies: Mutex<Vec<Scanning>>,
    counts: watch::Sender<Counts>,
    connections: Mutex<JoinSet<()>>,
}

/// A tally, and what makes scanners for it.
struct Scanning {
    flow: Flow,
    tally: Tally,
    scanner: Box<dyn Fn() -> Box<dyn Scan> + Send>,
}

/// When a connection was used last. None once it is forgotten.
pub(super) struct Usage(Mutex<Option<Instant>>);

impl Usage {
    pub(super) fn begins() -> Self {
        Self(Mutex::new(Some(Instant::now())))
    }

    pub(super) fn is_forgotten(&self) -> bool {
        lock(&self.0).is_none()
    }
}

/// The scanners of one direction of one connection.
#[derive(Default)]
pub(super) struct Scanners {
    /// How many tallies there were when this was last looked at. Their number only grows.
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
        // It is open as long as `self`, which holds the sender.
        let seen = counts.wait_for(reached).await.map(|counts| *counts);
        seen.unwrap_or_else(|_| self.counts())
    }

    /// Runs a connection until it ends or is cut.
    pub(super) fn connected(&self, connection: impl Future<Output = ()> + Send + 'static) {
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

    /// Cuts all connections without waiting for that.
    pub(super) fn abandon(&self) {
        lock(&self.connections).abort_all();
    }

    /// Notes that a connection is used, and tells whether it has been forgotten by now.
    pub(super) fn has_forgotten(&self, usage: &Usage) -> bool {
        let limit = self.faults().idle_limit;
        let mut last = lock(&usage.0);
        let Some(before) = *last else { return true };
        if limit.is_some_and(|limit| before.elapsed() > limit) {
            *last = None;
            self.count(|counts| counts.forgotten += 1);
        } else {
            *last = Some(Instant::now());
        }
        last.is_none()
    }

    /// Decides about something that was read. Says also for how long it is held back.
    pub(super) fn judge(&self, flow: Flow, bytes: &[u8]) -> (Verdict, Duration) {
        let (verdict, delay) = {
            let mut faults = self.faults();
            (faults.judge(flow, bytes), faults.delay)
        };
        self.count(|counts| {
            let length = bytes.len() as u64;
            let (reads, read_bytes) = match flow {
                Flow::Requests => (&mut counts.requests, &mut counts.request_bytes),
                Flow::Replies => (&mut counts.replies, &mut counts.reply_bytes),
            };
            *reads += 1;
            *read_bytes += length;
            match verdict {
                Verdict::Pass if !delay.is_zero() => counts.delayed += 1,
                Verdict::Swallow => counts.swallowed += 1,
                Verdict::CutBefore => counts.cut_before += 1,
                Verdict::Tear(_) => counts.limited += 1,
                // A cut after a request has happened when that was answered.
                Verdict::Pass | Verdict::CutAfter => {}
            }
        });
        (verdict, delay)
    }

    pub(super) fn add_tally<S: Scan>(
        &self,
        flow: Flow,
        scanner: impl Fn() -> S + Send + 'static,
    ) -> Tally {
        let tally = Tally::default();
        lock(&self.tallies).push(Scanning {
            flow,
            tally: tally.clone(),
            scanner: Box::new(move || Box::new(scanner())),
        });
        tally
    }

    pub(super) fn scan(&self, flow: Flow, bytes: &[u8], scanners: &mut Scanners) {
        let tallies = lock(&self.tallies);
        let new = tallies[scanners.known..].iter();
        let new = new.filter(|scanning| scanning.flow == flow);
        let new = new.map(|scanning| (scanning.tally.clone(), (scanning.scanner)()));
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
