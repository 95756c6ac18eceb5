use std::{collections::BTreeMap, mem, sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::Instant};
use tokio_util::task::AbortOnDropHandle;

use super::{
    error::LeaseError,
    manager::{Manager, Priority},
};
use crate::{Jitter, Retry, lock::Schedule};

/// A connection that was idle for this long is pinged before it is leased.
const PING_AFTER: Duration = Duration::from_secs(5);

/// How long an unused connection is kept. Shorter than the idle timeouts of NATs and load
/// balancers, which drop connections after a minute at the earliest.
const MAX_IDLE: Duration = Duration::from_secs(45);

/// How long any connection is kept, so that clients follow a server that has moved.
const MAX_AGE: Duration = Duration::from_secs(30 * 60);

/// The maximum number of connections that are opened at the same time.
pub(super) const MAX_OPENING: usize = 3;

/// How long the slot of a connection whose answer never arrived is kept while the server does not
/// confirm that its session has ended.
///
/// Longer than PostgreSQL keeps a standby that does not answer (`wal_sender_timeout`, one minute),
/// for which a commit may wait.
pub const MAX_ENDING: Duration = Duration::from_secs(90);

/// The first pause after a failed attempt, and the longest. They are short, because locks wait, and
/// because there is only one attempt at a time while attempts fail.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const MAX_PAUSE: Duration = Duration::from_millis(250);

pub(super) fn pauses() -> Schedule {
    let pauses = Retry::exponential(FIRST_PAUSE).max_delay(MAX_PAUSE);
    pauses.jitter(Jitter::Equal).unlimited().schedule()
}

/// A waiter for a lease `L`.
pub(super) type Waiter<M, L> = oneshot::Sender<Result<L, LeaseError<<M as Manager>::Error>>>;

/// The weight of the last lease in the average of how long leases take: one in eight, as in the
/// estimate of a round trip in TCP (RFC 6298).
const LEASE_TIME_WEIGHT: u32 = 8;

/// The state of the pool, under its one mutex.
///
/// **Invariant:** `idle + leased + opening ≤ size`, and `acquiring ≤ size − 1`, which reserves one
/// connection for extends and releases. A slot whose session is being ended counts as leased, with
/// its priority.
pub(super) struct State<M: Manager, L> {
    size: usize,
    /// The most recently used one is on top, so that surplus connections grow old.
    idle: Vec<Idle<M::Connection>>,
    /// One queue for each priority, by the order of arrival.
    queues: [BTreeMap<u64, Waiter<M, L>>; 3],
    next_ticket: u64,
    leased: usize,
    /// How many of `leased` are leased by [`Priority::Acquire`].
    acquiring: usize,
    opening: usize,
    /// The pauses between attempts to open, while these fail.
    pub(super) pauses: Option<Schedule>,
    /// Why the last attempt to open failed.
    pub(super) cause: Option<Arc<M::Error>>,
    /// The duration of leases: a moving average, and the last one.
    held: Duration,
    last_held: Duration,
    pub(super) ending: Vec<Ending<M::Session>>,
    pub(super) is_ending: bool,
    /// Whether a task closes connections that are idle for too long. It is set and cleared together
    /// with what it depends on, so an idle connection always has such a task.
    is_closing: bool,
    /// Ends that task with the pool.
    pub(super) closer: Option<AbortOnDropHandle<()>>,
}

struct Idle<C> {
    connection: C,
    opened: Instant,
    since: Instant,
    suspect: bool,
}

/// A session whose client is gone, and the slot that it occupies.
pub(super) struct Ending<S> {
    pub(super) session: S,
    pub(super) priority: Priority,
    pub(super) until: Instant,
}

/// A connection, and the slot that it occupies.
pub(super) struct Handover<C> {
    pub(super) connection: C,
    pub(super) opened: Instant,
    pub(super) priority: Priority,
    pub(super) since: Instant,
    /// Whether it must be pinged before it is used.
    pub(super) stale: bool,
}

/// A waiter, and the connection that is assigned to it.
type Assignment<M, L> = (Waiter<M, L>, Handover<<M as Manager>::Connection>);

/// The actions to take once the state is unlocked.
pub(super) struct Plan<M: Manager, L> {
    pub(super) handovers: Vec<Assignment<M, L>>,
    pub(super) openers: usize,
    pub(super) expired: Vec<M::Connection>,
}

impl<M: Manager, L> State<M, L> {
    pub(super) fn new(size: usize) -> Self {
        Self {
            size,
            idle: Vec::new(),
            queues: Default::default(),
            next_ticket: 0,
            leased: 0,
            acquiring: 0,
            opening: 0,
            pauses: None,
            cause: None,
            held: Duration::ZERO,
            last_held: Duration::ZERO,
            ending: Vec::new(),
            is_ending: false,
            is_closing: false,
            closer: None,
        }
    }

    /// Leases an idle connection to a new caller, unless other waiters are served first.
    pub(super) fn lease_at_once(
        &mut self,
        priority: Priority,
        now: Instant,
    ) -> Option<Handover<M::Connection>> {
        let others = &self.queues[..=priority as usize];
        if others.iter().any(|queue| !queue.is_empty()) || !self.admits(priority) {
            return None;
        }
        // A connection that is too old is left to the plan, which drops it outside the lock.
        if self.idle.last().is_none_or(|idle| idle.is_expired(now)) {
            return None;
        }
        self.lease_idle(priority, now)
    }

    /// Estimates how long a new caller would wait behind all current waiters.
    ///
    /// It uses the shorter of the average and the last lease: after a stall, the first short lease
    /// ends the errors, and one slow statement causes none. It is zero if no caller waits, so that
    /// a caller is then always admitted and measures again.
    pub(super) fn expected_wait(&self) -> Duration {
        let ahead: usize = self.queues.iter().map(BTreeMap::len).sum();
        let leases = if ahead == 0 { 0 } else { (ahead + 1).div_ceil(self.size - 1) };
        self.held.min(self.last_held).saturating_mul(u32::try_from(leases).unwrap_or(u32::MAX))
    }

    pub(super) fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }

    pub(super) fn enter(&mut self, priority: Priority, ticket: u64, waiter: Waiter<M, L>) {
        self.queues[priority as usize].insert(ticket, waiter);
    }

    pub(super) fn leave(&mut self, priority: Priority, ticket: u64) -> Option<Waiter<M, L>> {
        self.queues[priority as usize].remove(&ticket)
    }

    pub(super) fn take_waiters(&mut self) -> Vec<Waiter<M, L>> {
        self.queues.iter_mut().flat_map(mem::take).map(|(_, waiter)| waiter).collect()
    }

    pub(super) fn anyone_waits(&self) -> bool {
        self.queues.iter().any(|queue| !queue.is_empty())
    }

    /// Decides which waiter gets which connection, and how many connections to open.
    pub(super) fn plan(&mut self, now: Instant) -> Plan<M, L> {
        let mut plan = Plan { handovers: Vec::new(), openers: 0, expired: Vec::new() };
        let old = self.idle.iter().take_while(|idle| idle.is_expired(now)).count();
        plan.expired.extend(self.idle.drain(..old).map(|idle| idle.connection));
        while let Some(priority) = self.next_priority() {
            if self.idle.last().is_some_and(|idle| idle.is_expired(now)) {
                plan.expired.extend(self.idle.pop().map(|idle| idle.connection));
                continue;
            }
            let Some(handover) = self.lease_idle(priority, now) else { break };
            if let Some((_, waiter)) = self.queues[priority as usize].pop_first() {
                plan.handovers.push((waiter, handover));
            }
        }
        plan.openers = self.missing_openers();
        self.opening += plan.openers;
        plan
    }

    /// Returns the priority of the waiter that is served next.
    fn next_priority(&self) -> Option<Priority> {
        let order = [Priority::Extend, Priority::Release, Priority::Acquire];
        let mut waiting =
            order.into_iter().filter(|&queue| !self.queues[queue as usize].is_empty());
        waiting.next().filter(|&priority| self.admits(priority))
    }

    fn admits(&self, priority: Priority) -> bool {
        priority != Priority::Acquire || self.acquiring < self.size - 1
    }

    fn lease_idle(&mut self, priority: Priority, now: Instant) -> Option<Handover<M::Connection>> {
        let Idle { connection, opened, since, suspect } = self.idle.pop()?;
        self.leased += 1;
        self.acquiring += usize::from(priority == Priority::Acquire);
        let stale = suspect || now.duration_since(since) >= PING_AFTER;
        Some(Handover { connection, opened, priority, since: now, stale })
    }

    /// Leases a connection that is lent to the pool, if the pool has none, and room for one.
    pub(super) fn lease_lent(
        &mut self,
        priority: Priority,
        lend: impl FnOnce() -> Option<M::Connection>,
    ) -> Option<Handover<M::Connection>> {
        if !self.has_no_connection() || self.opening == self.size {
            return None;
        }
        let (connection, now) = (lend()?, Instant::now());
        self.leased += 1;
        self.acquiring += usize::from(priority == Priority::Acquire);
        Some(Handover { connection, opened: now, priority, since: now, stale: false })
    }

    /// Takes an idle connection out of the pool.
    pub(super) fn take_idle(
        &mut self,
        mut accepts: impl FnMut(&M::Connection) -> bool,
    ) -> Option<M::Connection> {
        let found = self.idle.iter().position(|idle| accepts(&idle.connection))?;
        Some(self.idle.remove(found).connection)
    }

    /// Returns the number of openers to start: one for each connection that could be leased, within
    /// the limits of the pool, and only one while opening fails.
    fn missing_openers(&self) -> usize {
        let [extends, releases, acquires] = &self.queues;
        let admitted = acquires.len().min(self.size - 1 - self.acquiring.min(self.size - 1));
        let needed = (extends.len() + releases.len() + admitted).saturating_sub(self.opening);
        let free = self.size.saturating_sub(self.leased + self.opening + self.idle.len());
        let limit = if self.pauses.is_some() { 1 } else { MAX_OPENING };
        needed.min(free).min(limit.saturating_sub(self.opening))
    }

    /// Returns a connection to the pool, used or not. Its state must be unchanged.
    pub(super) fn take_back(&mut self, handover: Handover<M::Connection>) {
        let Handover { connection, opened, priority, stale, .. } = handover;
        self.free(priority);
        self.idle.push(Idle { connection, opened, since: Instant::now(), suspect: stale });
    }

    /// Frees the slot of a connection that is gone.
    pub(super) fn free(&mut self, priority: Priority) {
        self.leased -= 1;
        self.acquiring -= usize::from(priority == Priority::Acquire);
    }

    /// Records the duration of a lease.
    pub(super) fn measure(&mut self, held: Duration) {
        self.last_held = held;
        self.held = if self.held.is_zero() {
            held
        } else {
            self.held - self.held / LEASE_TIME_WEIGHT + held / LEASE_TIME_WEIGHT
        };
    }

    /// Adds a connection that was just opened.
    pub(super) fn add_idle(&mut self, connection: M::Connection) {
        let now = Instant::now();
        self.idle.push(Idle { connection, opened: now, since: now, suspect: false });
    }

    pub(super) fn suspect_idle(&mut self) {
        self.idle.iter_mut().for_each(|idle| idle.suspect = true);
    }

    pub(super) fn take_stale(&mut self) -> Vec<M::Connection> {
        let now = Instant::now();
        let stale =
            |idle: &mut Idle<_>| idle.suspect || now.duration_since(idle.since) >= PING_AFTER;
        self.idle.extract_if(.., stale).map(|idle| idle.connection).collect()
    }

    /// Returns whether the task that closes idle connections is to be started.
    pub(super) fn starts_closing(&mut self) -> bool {
        !self.idle.is_empty() && !mem::replace(&mut self.is_closing, true)
    }

    /// Takes the connections that have been idle for too long, and returns when the next one will
    /// have been. If none is left, the task that closes them ends.
    pub(super) fn take_expired(&mut self) -> (Vec<M::Connection>, Option<Instant>) {
        let now = Instant::now();
        let expired = self.idle.extract_if(.., |idle| idle.is_expired(now));
        let expired = expired.map(|idle| idle.connection).collect();
        let next = self.idle.iter().map(Idle::expiry).min();
        self.is_closing = next.is_some();
        (expired, next)
    }

    /// Removes an opener from the count.
    pub(super) fn opener_ended(&mut self) {
        self.opening -= 1;
    }

    pub(super) fn is_only_opener(&self) -> bool {
        self.opening == 1
    }

    pub(super) fn has_no_connection(&self) -> bool {
        self.leased == 0 && self.idle.is_empty()
    }

    /// Returns the pause before the next attempt to open.
    pub(super) fn pause(&mut self) -> Duration {
        let pauses = self.pauses.get_or_insert_with(pauses);
        pauses.next().unwrap_or_default()
    }
}

impl<C> Idle<C> {
    fn expiry(&self) -> Instant {
        (self.since + MAX_IDLE).min(self.opened + MAX_AGE)
    }

    fn is_expired(&self, now: Instant) -> bool {
        now >= self.expiry()
    }
}
