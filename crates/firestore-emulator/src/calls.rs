//! Counts of the calls that were received.

use std::{
    ops::Sub,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::Rpc;

/// How often each method was called, up to a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls([u64; Rpc::ALL.len()]);

impl Calls {
    /// Returns the number of calls of one method.
    #[must_use]
    pub fn of(&self, rpc: Rpc) -> u64 {
        self.0[rpc as usize]
    }

    /// Returns the number of calls of all methods.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl Sub for Calls {
    type Output = Self;

    /// Returns the calls between two moments: the later count minus the earlier one.
    fn sub(self, earlier: Self) -> Self {
        let mut calls = self;
        for (calls, earlier) in calls.0.iter_mut().zip(earlier.0) {
            *calls = calls.saturating_sub(earlier);
        }
        calls
    }
}

/// Counts calls as they arrive, including those that a fault then hits.
#[derive(Debug, Default)]
pub(crate) struct Counter([AtomicU64; Rpc::ALL.len()]);

impl Counter {
    pub(crate) fn count(&self, rpc: Rpc) {
        self.0[rpc as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Calls {
        Calls(std::array::from_fn(|rpc| self.0[rpc].load(Ordering::Relaxed)))
    }
}
