//! The options of one use of a lock.

use std::time::Duration;

use super::{renewal::Renew, scope::Scope};
use crate::{InvalidValue, LockKey, Owner, Ttl, backend::Mode, value::invalid::Invalid};

/// The options of a request to the store and of the resulting guard.
#[derive(Clone)]
pub(crate) struct LockOptions {
    pub(crate) key: LockKey,
    pub(crate) ttl: Ttl,
    pub(crate) mode: Mode,
    pub(crate) priority: i32,
    pub(crate) owner: Owner,
    pub(crate) renew: Option<Renew>,
    pub(crate) min_hold: Option<Duration>,
    pub(crate) max_hold: Option<Duration>,
    /// Whether the grant creates the fence counter of a key that has none.
    pub(crate) creates_counter: bool,
    /// Cancels the lock itself.
    pub(crate) scope: Scope,
}

impl LockOptions {
    pub(crate) fn new(key: LockKey, owner: Owner, scope: Scope) -> Self {
        Self {
            key,
            ttl: Ttl::default(),
            mode: Mode::default(),
            priority: 0,
            owner,
            renew: None,
            min_hold: None,
            max_hold: None,
            creates_counter: true,
            scope,
        }
    }

    /// Checks the rules that concern several options.
    pub(crate) fn checked(self) -> Result<Self, InvalidValue> {
        let limits = [("ttl", Some(self.ttl.as_duration())), ("max_hold", self.max_hold)];
        for (limit, value) in limits {
            if let (Some(min_hold), Some(value)) = (self.min_hold, value)
                && min_hold > value
            {
                return Err(Invalid::LongMinHold { min_hold, limit, value }.into());
            }
        }
        Ok(self)
    }
}
