use std::{fmt, time::Duration};

use crate::{Fence, Owner, Timestamp};

/// Reports the outcome of an [`AcquireRequest`](crate::backend::AcquireRequest).
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a grant that is ignored keeps its key locked until the ttl has elapsed"]
pub enum AcquireOutcome {
    /// The key is held under the id of the request.
    Granted(Grant),
    /// Another holder has the key. Nothing was written, and no fence was used up.
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
    /// The fence of the holder's grant.
    pub fence: Option<Fence>,
    /// The holder's label.
    pub owner: Option<Owner>,
    /// How long until the holder's grant expires unless it is extended, measured by the store when
    /// it answered; zero once the grant is in its grace.
    pub remaining: Option<Duration>,
    /// How long until the key can be granted to another caller unless the holder extends: the time
    /// to the expiry and what is left of the grace. A waiter retries then.
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
    /// that are known. The label is [quoted](crate::text::Quoted): it cannot imitate the rest of
    /// the line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.owner {
            Some(owner) => write!(f, "held by {owner}")?,
            None => f.write_str("held by an unnamed owner")?,
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
    use std::time::Duration;

    use super::Holder;
    use crate::{Fence, Owner};

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
    fn a_label_cannot_change_how_the_rest_of_the_line_is_shown() {
        assert!(
            shown("gnp.\u{202e}exe\u{200b}")
                .starts_with(r#"held by "gnp.\u{202e}exe\u{200b}" under"#)
        );
    }
}
