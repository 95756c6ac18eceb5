use tokio_util::sync::CancellationToken;

use super::lease::Lease;
use crate::{Error, Fence};

/// Represents one term of a leader, from winning the key until it is lost or given up.
///
/// Cheap to clone: pass it to whatever must check that it still leads, or may end the term. All
/// clones refer to the same term, and none keeps it alive.
#[derive(Clone, Debug)]
pub struct Term {
    lease: Lease,
    resigned: CancellationToken,
}

impl Term {
    pub(super) fn new(lease: Lease) -> Self {
        Self { lease, resigned: CancellationToken::new() }
    }

    /// Returns the fence of the term, to be checked at the resource. It is higher than that of
    /// every earlier term of the key, whichever process led.
    ///
    /// # Errors
    ///
    /// [`Lost`](crate::ErrorKind::Lost) once the term is over.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// use syncguard_core::ErrorKind;
    ///
    /// let led = locks.leader("scheduler").run(async |term| {
    ///     assert!(term.fence().is_ok());
    ///     term
    /// });
    /// assert_eq!(led.await?.fence().unwrap_err().kind(), ErrorKind::Lost); // it is over
    /// # Ok(()) }
    /// ```
    pub fn fence(&self) -> Result<Fence, Error> {
        self.lease.fence()
    }

    /// Returns the lease under which the leader works: its remaining time, its loss, and what a
    /// fencing gate needs.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// let valid = locks.leader("scheduler").run(async |term| term.lease().is_valid()).await?;
    /// assert!(valid);
    /// # Ok(()) }
    /// ```
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Ends the term. The work is cancelled (its future is dropped) where it awaits next, then the
    /// lock is released. The candidate campaigns again after a pause, in which the others have
    /// their chance; see [`run`](crate::LeaderBuilder::run).
    ///
    /// Has no effect if the term is over. Work that returns without another await ends the campaign
    /// with its value, as if it had not resigned.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// use syncguard_core::{DurationExt, Retry};
    ///
    /// let mut terms = 0;
    /// let leader = locks.leader("scheduler").retry(Retry::fixed(1.millis()));
    /// let led = leader.run(|term| {
    ///     terms += 1;
    ///     let number = terms;
    ///     async move {
    ///         if number == 1 {
    ///             term.resign();
    ///             std::future::pending::<()>().await; // cancelled here
    ///         }
    ///         number
    ///     }
    /// });
    /// assert_eq!(led.await?, 2);
    /// # Ok(()) }
    /// ```
    pub fn resign(&self) {
        self.resigned.cancel();
    }

    /// Completes when the term was resigned.
    pub(super) async fn resigned(&self) {
        self.resigned.cancelled().await;
    }
}
