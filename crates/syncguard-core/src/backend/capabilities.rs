use std::time::Duration;

/// Describes what a backend supports, so that callers can check before they use it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Whether a held key is kept from others. False for a backend that does not coordinate at all,
    /// such as [`NullBackend`](crate::NullBackend).
    pub exclusive: bool,
    /// How long fences keep increasing.
    pub fencing: Fencing,
    /// Whose clock decides when a grant has expired.
    pub clock: ClockAuthority,
    /// How long past its expiry a grant still keeps its key.
    pub grace: Duration,
    /// Whether [`Mode::Shared`](crate::backend::Mode::Shared) is granted.
    pub shared: bool,
    /// How a waiter is notified of a release by another process.
    pub wake_up: WakeUp,
    /// Whether `list` and `force_release` work.
    pub list: bool,
}

impl Capabilities {
    /// The grace of every store in its common format: 1000 ms.
    pub const GRACE: Duration = Duration::from_millis(1_000);

    /// Describes a backend with durable fences on the store's clock, the common grace, and no
    /// optional feature.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::backend::{Capabilities, Fencing, WakeUp};
    ///
    /// let capabilities = Capabilities::new().with_fencing(Fencing::Process).with_list();
    /// assert!(capabilities.exclusive && capabilities.list && !capabilities.shared);
    /// assert_eq!(capabilities.wake_up, WakeUp::None);
    /// ```
    pub const fn new() -> Self {
        Self {
            exclusive: true,
            fencing: Fencing::Durable,
            clock: ClockAuthority::Store,
            grace: Self::GRACE,
            shared: false,
            wake_up: WakeUp::None,
            list: false,
        }
    }

    /// Declares that the backend does not exclude other holders.
    #[must_use]
    pub const fn without_exclusion(mut self) -> Self {
        self.exclusive = false;
        self
    }

    /// Sets how long fences keep increasing.
    #[must_use]
    pub const fn with_fencing(mut self, fencing: Fencing) -> Self {
        self.fencing = fencing;
        self
    }

    /// Sets whose clock decides.
    #[must_use]
    pub const fn with_clock(mut self, clock: ClockAuthority) -> Self {
        self.clock = clock;
        self
    }

    /// Sets how long past its expiry a grant still keeps its key.
    #[must_use]
    pub const fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Sets how a waiter is notified of a release.
    #[must_use]
    pub const fn with_wake_up(mut self, wake_up: WakeUp) -> Self {
        self.wake_up = wake_up;
        self
    }

    /// Declares that `list` and `force_release` work.
    #[must_use]
    pub const fn with_list(mut self) -> Self {
        self.list = true;
        self
    }

    /// Declares that [`Mode::Shared`](crate::backend::Mode::Shared) is granted.
    #[must_use]
    pub const fn with_shared(mut self) -> Self {
        self.shared = true;
        self
    }
}

impl Default for Capabilities {
    fn default() -> Self {
        Self::new()
    }
}

/// Describes how long the fences of a key keep increasing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fencing {
    /// Until the process ends. Do not check such a fence at a resource that outlives it.
    Process,
    /// As long as the store keeps its data.
    Durable,
}

/// Names the clock that decides when a grant has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockAuthority {
    /// The store's own clock, the same for all clients and all keys. The lock layer compares it
    /// with the local clock and counts a lease as lost if the store's clock has jumped ahead.
    Store,
    /// The clock of the node that has the key: the same for all clients, but not for all keys.
    Nodes,
    /// Each client's own clock. The clocks must agree to within the grace.
    Client,
}

/// Describes how a waiter is notified of a release by another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WakeUp {
    /// No notification: the waiter retries on its schedule and when the holder's grant has expired.
    None,
    /// The backend watches the store closely on behalf of all waiters of the process.
    Watched,
    /// The store notifies the waiter.
    Notified,
    /// The store keeps the waiters of all processes in line, and notifies the first of them.
    InTurn,
}
