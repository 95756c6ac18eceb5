use std::{future::Future, time::Duration};

use super::report::{self, CaseOutcome};
use crate::{Fence, LockKey, backend::LockBackend};

/// The time limit of one case. A case that hangs fails.
const CASE_TIMEOUT: Duration = Duration::from_secs(120);

/// Starts a store and connects clients to it.
///
/// Three methods are required. The hooks are for stores that can be restarted, disconnected or
/// prepared. If a hook returns [`Missing`](Hook::Missing), the cases that need it are skipped.
pub trait Harness: Sized + Send + Sync + 'static {
    /// The backend under test.
    type Backend: LockBackend + Clone;

    /// Returns the name of the backend, and the cases from which it is exempt.
    fn profile() -> Profile;

    /// Returns a store, or a namespace of one, that is not used elsewhere. Called once for each
    /// case.
    fn start() -> impl Future<Output = Self> + Send;

    /// Opens a new connection, as another process would.
    fn client(&self) -> impl Future<Output = Self::Backend> + Send;

    /// Advances the store's clock and the local clock by at least `duration`. The default sleeps.
    fn advance(&self, duration: Duration) -> impl Future<Output = ()> + Send {
        tokio::time::sleep(duration)
    }

    /// Opens a new connection that [seeds](crate::backend::Counters::Seeded) fence counters, and so
    /// can retire them. Required for a backend that retires counters.
    fn seeding_client(&self) -> impl Future<Output = Option<Self::Backend>> + Send {
        async { None }
    }

    /// Sets the fence counter of a key as if `fence` had been granted last.
    fn seed_fence(&self, key: &LockKey, fence: Fence) -> impl Future<Output = Hook> + Send {
        let _ = (key, fence);
        async { Hook::Missing }
    }

    /// Stops the store and starts it on the same data. Required for a store that claims durable
    /// fences, because that claim must be tested.
    fn restart(&self) -> impl Future<Output = Hook> + Send {
        async { Hook::Missing }
    }

    /// Closes every open connection to the store. Required for a store that is reached through a
    /// network.
    fn cut_connections(&self) -> impl Future<Output = Hook> + Send {
        async { Hook::Missing }
    }
}

/// Whether the harness supports a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// The hook was carried out.
    Done,
    /// The harness does not support it.
    Missing,
}

impl Hook {
    /// Lets a case continue, or skips it with `reason`.
    pub(super) fn or_skip(self, reason: &'static str) -> Result<(), CaseOutcome> {
        match self {
            Self::Done => Ok(()),
            Self::Missing => Err(CaseOutcome::Skipped(reason)),
        }
    }
}

/// How the store is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// By a call, or through a file.
    InProcess,
    /// Through a network that can fail.
    Network,
}

/// Names a backend in reports, and lists the cases from which it is exempt.
#[derive(Clone, Debug)]
pub struct Profile {
    pub(super) name: &'static str,
    pub(super) connection: Connection,
    exceptions: Vec<(&'static str, &'static str)>,
}

impl Profile {
    /// Describes a store that is reached by a call or through a file.
    pub fn in_process(name: &'static str) -> Self {
        Self { name, connection: Connection::InProcess, exceptions: Vec::new() }
    }

    /// Describes a store that is reached through a network.
    pub fn network(name: &'static str) -> Self {
        Self { connection: Connection::Network, ..Self::in_process(name) }
    }

    /// Excludes a case, named as in [`CASES`](super::CASES), with a reason.
    ///
    /// # Panics
    ///
    /// Panics if there is no such case, so that an exception cannot outlive its case.
    #[must_use]
    pub fn without(mut self, case: &'static str, reason: &'static str) -> Self {
        assert!(super::CASES.contains(&case), "there is no case {case}");
        self.exceptions.push((case, reason));
        self
    }

    fn skips(&self, case: &str) -> Option<&'static str> {
        let skipped = std::env::var("SYNCGUARD_SKIP").unwrap_or_default();
        if skipped.split(',').any(|name| name.trim() == self.name) {
            return Some("SYNCGUARD_SKIP names the backend");
        }
        let exception = self.exceptions.iter().find(|(name, _)| *name == case);
        exception.map(|(_, reason)| *reason)
    }
}

/// Runs one case on a runtime of its own. Called by [`contract_tests!`](crate::contract_tests).
///
/// # Panics
///
/// Panics if the case fails or takes longer than two minutes.
pub fn run<H, C, F>(case: &'static str, body: C)
where
    H: Harness,
    C: FnOnce(H) -> F,
    F: Future<Output: Into<CaseOutcome>>,
{
    let profile = H::profile();
    let outcome = match profile.skips(case) {
        Some(reason) => CaseOutcome::Skipped(reason),
        None => {
            let case = async { body(H::start().await).await.into() };
            let bounded = async { tokio::time::timeout(CASE_TIMEOUT, case).await };
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            let runtime = runtime.worker_threads(2).enable_all().build();
            let ended = runtime.expect("a runtime starts").block_on(bounded);
            ended.expect("the case ends within its limit")
        }
    };
    report::append(profile.name, case, outcome);
}
