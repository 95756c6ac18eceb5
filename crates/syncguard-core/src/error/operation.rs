use std::fmt;

/// Names an operation on locks or on their store, in errors and in telemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Parsing or checking a value, before anything is sent.
    Validate,
    /// Opening a backend.
    Connect,
    /// Acquiring a lock.
    Acquire,
    /// Extending a lock.
    Extend,
    /// Releasing a lock.
    Release,
    /// Abandoning a grant whose outcome is unknown.
    Abandon,
    /// Looking up a lock.
    Lookup,
    /// Checking whether a key is locked.
    IsLocked,
    /// Listing locks.
    List,
    /// Releasing a lock without its id, at the request of an operator.
    ForceRelease,
    /// Checking the store's own settings.
    Check,
    /// Creating or upgrading the tables of a store.
    SetUpSchema,
    /// Deleting rows that no one needs any more.
    Prune,
    /// Using a lock while it is held.
    Hold,
}

impl Operation {
    /// Returns the name of the operation in errors, logs and metrics. The name is stable.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Validate => "validate",
            Self::Connect => "connect",
            Self::Acquire => "acquire",
            Self::Extend => "extend",
            Self::Release => "release",
            Self::Abandon => "abandon",
            Self::Lookup => "lookup",
            Self::IsLocked => "is locked",
            Self::List => "list",
            Self::ForceRelease => "force release",
            Self::Check => "check",
            Self::SetUpSchema => "set up schema",
            Self::Prune => "prune",
            Self::Hold => "hold",
        }
    }

    /// Returns whether the operation only reads, so that it cannot change the store.
    pub(super) fn is_read_only(self) -> bool {
        matches!(self, Self::Lookup | Self::IsLocked | Self::List | Self::Check)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// States whether a failed request may have changed the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The store is unchanged: the request was never sent, or the store rejected it or undid it.
    NotApplied,
    /// The store may have carried out the request, or may still do so.
    MayHaveApplied,
}
