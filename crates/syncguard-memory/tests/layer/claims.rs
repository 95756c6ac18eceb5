//! Claims, which create no fence counter, among locks.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;
use syncguard_core::{
    Fence, LockId, ManualClock, Ttl,
    backend::{AcquireOutcome, AcquireRequest, LockBackend, Mode, RetireRequest},
};
use syncguard_memory::MemoryBackend;
use tokio::runtime::Builder;

use crate::key;

#[derive(Clone, Copy, Debug)]
enum Step {
    Claim,
    Lock,
    Share,
    Release,
    Abandon,
    ForceRelease,
    /// Retires the counter, if it is seeded and due.
    Retire,
    Pass(Duration),
}

fn step() -> impl Strategy<Value = Step> {
    let durations = [1, 500, 30_000, 31_000, 25 * 3_600_000].map(Duration::from_millis);
    prop_oneof![
        3 => Just(Step::Claim),
        3 => Just(Step::Lock),
        1 => Just(Step::Share),
        3 => Just(Step::Release),
        1 => Just(Step::Abandon),
        1 => Just(Step::ForceRelease),
        1 => Just(Step::Retire),
        2 => prop::sample::select(durations.to_vec()).prop_map(Step::Pass),
    ]
}

/// Takes the steps on one key, and checks that the fences of locks and readers increase, whatever is
/// claimed in between.
async fn take(backend: &MemoryBackend, clock: &ManualClock, steps: Vec<Step>) {
    let (mut last, mut asked) = (Fence::ZERO, LockId::mint().unwrap());
    for step in steps {
        match step {
            Step::Claim | Step::Lock | Step::Share => {
                let id = LockId::mint().unwrap();
                let request = AcquireRequest::new(key("k"), id, Ttl::default());
                let request = match step {
                    Step::Claim => request.without_new_counter(),
                    Step::Share => request.with_mode(Mode::SHARED),
                    _ => request,
                };
                if let AcquireOutcome::Granted(grant) = backend.acquire(&request).await.unwrap() {
                    let is_uncounted = !request.creates_counter && grant.fence == Fence::ZERO;
                    assert!(is_uncounted || grant.fence > last, "{} after {last}", grant.fence);
                    last = last.max(grant.fence);
                    asked = id;
                }
            }
            Step::Release => {
                let _ = backend.release(&asked.into()).await.unwrap();
            }
            Step::Abandon => backend.abandon(asked, &key("k")).await.unwrap(),
            Step::ForceRelease => drop(backend.force_release(&key("k")).await.unwrap()),
            Step::Retire => {
                let request = RetireRequest::new(RetireRequest::MIN_UNUSED_FOR).unwrap();
                drop(backend.retire_counters(&request).await);
            }
            Step::Pass(time) => clock.advance(time),
        }
    }
}

proptest! {
    #[test]
    fn the_fences_of_locks_increase_whatever_is_claimed(
        seeds in any::<bool>(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let clock = Arc::new(ManualClock::default());
        let backend = MemoryBackend::with_clock(clock.clone());
        let backend = if seeds { backend.seed_new_counters() } else { backend };
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(take(&backend, &clock, steps));
    }
}
