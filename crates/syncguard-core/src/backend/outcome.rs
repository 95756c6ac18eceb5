use std::{fmt, time::Duration};

use crate::{Fence, Owner, Timestamp, backend::Mode};

/// Reports the outcome of an [`AcquireRequest`](crate::backend::AcquireRequest).
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a grant that is ignored keeps its key locked until the ttl has elapsed"]
pub enum AcquireOutcome {
    /// The key is held under the id of the request.
    Granted(Grant),
    /// Other holders have the key, or a writer has announced that it waits for it. Nothing but the
    /// request's own announcement was written, and no fence was used up.
    Contended {
        /// What is known of the holder at no further cost.
        holder: Option<Holder>,
    },
}

/// Describes the grant that the id of a request holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Higher than that of every earlier grant of the key.
    pub fence: Fence,
    /// When the grant ends unless it is extended, on the store's clock.
    pub expires_at: Timestamp,
}

/// Describes the holder of a lock to a contender.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The mode in which the key is held.
    pub mode: Mode,
    /// How many hold the key in [shared mode](Mode::Shared), if the store reports it. It is zero if
    /// no one does and the key is kept for a writer that has [announced] that it waits.
    ///
    /// [announced]: crate::backend::AcquireRequest::announce
    pub count: Option<usize>,
    /// The fence of the holder's grant; in shared mode the highest of them.
    pub fence: Option<Fence>,
    /// The holder's label; in shared mode none, because there are several holders.
    pub owner: Option<Owner>,
    /// How long until the holder's grant expires unless it is extended, measured by the store when
    /// it answered; zero once the grant is in its grace. In shared mode, that of the holder that
    /// stays longest.
    pub remaining: Option<Duration>,
    /// How long until the key can be granted to the caller unless a holder extends: the time to
    /// the expiry and what is left of the grace. A waiter retries then.
    ///
    /// Behind shared holders, an exclusive request waits for the last of them to expire, a request
    /// for one of their permits for the first; a request that is kept out by an announcement waits
    /// for its end.
    pub free_in: Option<Duration>,
    /// Whether the holder's client releases without notifying waiters, although the backend's own
    /// releases do. A waiter then polls at a short, steady interval instead of relying on a
    /// notification.
    pub silent: bool,
}

impl Holder {
    /// Creates the description of the holder of a live grant, as of `now`.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::{DurationExt, Fence, Holder, Owner, Timestamp, backend::Grant};
    ///
    /// let now = Timestamp::from_unix_millis(1_000);
    /// let grant = Grant { fence: Fence::new(42)?, expires_at: now.later_by(12.secs()) };
    /// let holder = Holder::new(grant, Some(Owner::new("web-3")?), now, 1.secs());
    /// assert_eq!(holder.free_in, Some(13.secs()));
    /// assert_eq!(
    ///     holder.to_string(),
    ///     r#"held by "web-3" under fence 000000000000042 for another 12s"#
    /// );
    /// # Ok::<(), syncguard_core::Error>(())
    /// ```
    pub fn new(grant: Grant, owner: Option<Owner>, now: Timestamp, grace: Duration) -> Self {
        Self {
            mode: Mode::Exclusive,
            count: None,
            fence: Some(grant.fence),
            owner,
            remaining: Some(grant.expires_at.since(now)),
            free_in: Some(grant.expires_at.later_by(grace).since(now)),
            silent: false,
        }
    }

    /// Records that the holder's client does not notify waiters when it releases, as the TypeScript
    /// client does not.
    #[must_use]
    pub fn silent(self) -> Self {
        Self { silent: true, ..self }
    }
}

impl fmt::Display for Holder {
    /// Writes `held by "web-3:4711" under fence 000000000000042 for another 12s`, with the parts
    /// that are known; in shared mode `held by 3 in shared mode` in place of the label. The label is [quoted](crate::text::Quoted): it cannot imitate the rest of
    /// the line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.mode, self.count, &self.owner) {
            (Mode::Exclusive, _, Some(owner)) => write!(f, "held by {owner}")?,
            (Mode::Exclusive, _, None) => f.write_str("held by an unnamed owner")?,
            (Mode::Shared { .. }, Some(0), _) => f.write_str("kept for a waiting writer")?,
            (Mode::Shared { .. }, Some(1), _) => write!(f, "held by one in {}", self.mode)?,
            (Mode::Shared { .. }, Some(n), _) => write!(f, "held by {n} in {}", self.mode)?,
            (Mode::Shared { .. }, None, _) => write!(f, "held in {}", self.mode)?,
        }
        if let Some(fence) = self.fence {
            write!(f, " under fence {fence}")?;
        }
        if let Some(remaining) = self.remaining {
            let millis =
                Duration::from_millis(u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX));
            write!(f, " for another {}", humantime::format_duration(millis))?;
        }
        Ok(())
    }
}

/// Reports the outcome of a request to extend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a lock that was not extended no longer protects anything"]
pub enum ExtendOutcome {
    /// The grant now ends `ttl` after the store's current time, later or sooner than before.
    Extended {
        /// When the grant ends, on the store's clock.
        expires_at: Timestamp,
    },
    /// The id holds no live grant. Nothing was written.
    NotHeld(NotHeld),
}

/// Reports the outcome of a request to release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseOutcome {
    /// The grant was live and has ended.
    Released,
    /// The id held no live grant. No other holder's lock was affected.
    NotHeld(NotHeld),
}

/// Explains why an id holds nothing, if finding out costs nothing. For telemetry only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotHeld {
    /// The grant is still on record but has ended.
    Expired,
    /// No grant under the id is on record.
    NotFound,
    /// One of the two; which one is unknown.
    Unknown,
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, time::Duration};

    use super::Holder;
    use crate::{Fence, Owner, backend::Mode};

    fn shown(label: &str) -> String {
        let owner = Some(Owner::new(label).unwrap());
        let remaining = Some(Duration::from_secs(12));
        Holder { owner, fence: Some(Fence::ZERO), remaining, ..Holder::default() }.to_string()
    }

    #[test]
    fn a_label_cannot_imitate_the_rest_of_the_line() {
        let rest = " under fence 000000000000000 for another 12s";
        assert_eq!(shown("web-3:4711"), format!("held by \"web-3:4711\"{rest}"));
        assert_eq!(
            shown("ci\" under fence 000000000000009 for another 1h"),
            format!("held by \"ci\\\" under fence 000000000000009 for another 1h\"{rest}")
        );
    }

    #[test]
    fn shared_holders_are_counted() {
        let shown = |mode, count| Holder { mode, count, ..Holder::default() }.to_string();
        let semaphore = Mode::Shared { permits: NonZeroU32::new(4) };
        assert_eq!(shown(Mode::SHARED, Some(3)), "held by 3 in shared mode");
        assert_eq!(shown(Mode::SHARED, Some(1)), "held by one in shared mode");
        assert_eq!(shown(semaphore, Some(4)), "held by 4 in shared mode with 4 permits");
        assert_eq!(shown(Mode::SHARED, None), "held in shared mode");
        assert_eq!(shown(Mode::SHARED, Some(0)), "kept for a waiting writer");
    }

    #[test]
    fn a_label_cannot_change_how_the_rest_of_the_line_is_shown() {
        assert!(
            shown("gnp.\u{202e}exe\u{200b}")
                .starts_with(r#"held by "gnp.\u{202e}exe\u{200b}" under"#)
        );
    }
}
