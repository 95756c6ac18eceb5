//! What the waiters of a queue may do, and when.

/// What a waiter may do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It is the head, and contends.
    Head,
    /// It may make one attempt beside the head.
    Admitted,
    /// It waits.
    Waiting,
}

/// Why the head is to make an attempt before it is time, in ascending order of what it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// An id of this process was abandoned. If it was granted the key, the key may be free.
    Abandoned,
    /// This process has released the key, or the waiter has become the head.
    Released,
}
