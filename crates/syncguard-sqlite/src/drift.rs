//! Jumps of the clock.

use std::{
    sync::{Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use syncguard_core::{BootClock, Clock};

/// How far the wall clock may get away from the boot clock between two looks. A clock that is slewed
/// moves half a millisecond in a second; this is half of the grace.
const TOLERANCE_MS: i64 = 500;

/// Compares the wall clock of this host, which is the store's, with its boot clock.
///
/// # Why no lock is declared lost for a jump
///
/// A lock ends when the wall clock says so. If that clock jumps ahead by `j`, every grant ends `j`
/// sooner than its holder expects, and the key may be granted to another holder meanwhile. No client
/// can prevent that; the fence stops the first holder at the resource.
///
/// What an extend reports remains true all the same. It succeeds only where the row still carries its
/// id. A grant to another holder would have replaced that id, and no grant under the same id can have
/// followed, because no one asks with it any more. So an extend that succeeds proves that no one else
/// was granted the key in between, jump or not, and one that came too late finds nothing and reports
/// the loss. A holder who renews at a third of its ttl learns of a loss by then at the latest. To
/// declare locks lost because of the jump alone would end those that no one has taken. What remains is
/// to report that the clock is not to be relied upon.
#[derive(Debug, Default)]
pub(crate) struct Drift(Mutex<Option<i64>>);

impl Drift {
    /// Looks at both clocks, and logs a jump since the last look.
    pub(crate) fn observe(&self) {
        let boot = BootClock.now().since_boot();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis =
            |time: std::time::Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        if let Some(jump) = self.jump(millis(wall).saturating_sub(millis(boot))) {
            tracing::warn!(
                jump_ms = jump,
                "the clock of this host jumped; locks may end before or after their time"
            );
        }
    }

    /// Returns by how much the wall clock jumped since the last look, if that is beyond the tolerance.
    fn jump(&self, offset_ms: i64) -> Option<i64> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let jump = offset_ms.saturating_sub(last.replace(offset_ms)?);
        (jump.abs() > TOLERANCE_MS).then_some(jump)
    }
}

#[cfg(test)]
mod tests {
    use super::{Drift, TOLERANCE_MS};

    #[test]
    fn a_jump_is_reported_once_in_either_direction_and_slewing_is_not() {
        let drift = Drift::default();
        assert_eq!(drift.jump(1_000_000), None, "there is nothing to compare with");
        assert_eq!(drift.jump(1_000_000 + TOLERANCE_MS), None);
        assert_eq!(drift.jump(1_031_500), Some(31_000));
        assert_eq!(drift.jump(1_031_500), None);
        assert_eq!(drift.jump(1_000_500), Some(-31_000));
    }
}
