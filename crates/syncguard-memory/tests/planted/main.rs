//! The contract suite detects broken backends. Each backend here has one flaw and fails the case
//! that is named beside it. The case passes without the flaw.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod fences;
mod granting;
mod ownership;
mod reading;
mod store;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use syncguard_core::contract::{CaseOutcome, Harness};
use tokio::runtime::Builder;

use self::{fences::*, granting::*, ownership::*, reading::*, store::*};

/// The time limit of one case, in virtual time. No case takes as long.
const CASE_TIMEOUT: Duration = Duration::from_secs(600);

/// Runs one case in virtual time.
fn run_case<H: Harness, F>(case: impl FnOnce(H) -> F) -> CaseOutcome
where
    F: Future<Output: Into<CaseOutcome>>,
{
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let case = async { case(H::start().await).await.into() };
    runtime.block_on(async { tokio::time::timeout(CASE_TIMEOUT, case).await }).expect("it ends")
}

macro_rules! planted {
    ($($name:ident: $flaw:ident => $topic:ident::$case:ident)*) => {
        $(
            #[test]
            fn $name() {
                use syncguard_core::contract::$topic::$case;

                // Without the flaw it passes, or is skipped where the flaw is a capability.
                let _ = run_case::<Planted<Flawless<$flaw>>, _>($case);
                let flawed = || run_case::<Planted<$flaw>, _>($case);
                let detected = catch_unwind(AssertUnwindSafe(flawed)).is_err();
                assert!(detected, "the case does not detect the flaw");
            }
        )*
    };
}

planted! {
    a_key_granted_twice: NotExclusive => contention::a_held_key_is_not_granted_again
    a_read_separate_from_its_write: ReadsThenWrites
        => contention::exactly_one_of_many_contenders_is_granted
    a_contender_that_extends: ContenderExtends => contention::a_contender_does_not_change_the_lock
    a_lost_owner: LosesTheOwner => contention::contention_reports_the_holder
    a_holder_without_grace: HolderWithoutGrace => contention::contention_reports_the_holder
    a_ttl_from_before_the_wait: CountsGrantsFromSending
        => contention::a_ttl_begins_after_the_wait_for_the_store
    an_id_that_contends_with_itself: NotIdempotent
        => idempotence::a_repeated_request_returns_the_stored_grant
    a_repeated_request_that_extends: RepeatedRequestExtends
        => idempotence::a_repeated_request_does_not_move_the_expiry
    no_grace: NoGrace => expiry::a_key_is_not_granted_within_the_grace
    no_grace_for_the_holder: NoGraceForTheHolder => expiry::the_holder_can_extend_within_the_grace
    a_released_key_that_keeps_its_grace: ReleasedKeyKeepsItsGrace
        => lifecycle::a_released_key_is_free_immediately
    a_former_owner: KeepsAFormerOwner => lookup::owner_and_start_are_those_of_the_current_grant
    keys_without_case: IgnoresCase => keys::keys_that_only_look_alike_are_different_locks
    a_rejected_request_that_is_stored: StoresRejectedRequests
        => abandon::abandoning_before_the_acquire_prevents_the_grant

    a_fence_reset_by_a_release: ReleaseResetsTheFence => fencing::fences_increase_across_releases
    a_fence_reset_by_expiry: ExpiryResetsTheFence => fencing::fences_increase_across_expiries
    a_fence_reset_by_force: ForceResetsTheFence => operators::a_lock_released_by_force_is_free
    a_fence_used_up_by_contention: ContentionUsesUpAFence => fencing::contention_uses_up_no_fence
    one_counter_for_all_keys: OneCounterForAllKeys => fencing::each_key_has_its_own_fence_counter
    a_counter_that_wraps_around: CounterWrapsAround
        => fencing::an_acquire_at_the_fence_limit_fails_and_stores_nothing

    a_release_by_any_id: AnyIdReleases => ownership::a_foreign_id_releases_nothing
    an_extend_by_any_id: AnyIdExtends => ownership::a_foreign_id_extends_nothing
    a_second_release: ReleasesTwice => ownership::a_lock_is_released_at_most_once
    a_hint_that_overrides_the_id: HintOverridesTheId
        => ownership::a_wrong_hint_affects_no_other_lock
    a_hint_that_is_required: RequiresTheHint => ownership::the_lock_id_alone_is_sufficient
    an_extend_that_adds: ExtendAdds => extend::an_extend_does_not_add_to_the_remaining_time
    an_extend_that_never_shortens: ExtendNeverShortens
        => extend::an_extend_can_shorten_the_remaining_time
    an_extend_that_revives: ExtendRevives => extend::an_extend_never_revives_an_expired_grant
    an_extend_that_is_not_stored: ExtendIsNotStored
        => extend::an_extended_lock_outlives_its_first_ttl
    an_extend_that_loses_the_owner: ExtendLosesTheOwner
        => extend::an_extend_keeps_fence_owner_and_start
    an_extend_from_before_the_wait: CountsExtendsFromSending
        => extend::an_extend_counts_from_after_the_wait_for_the_store

    an_abandon_that_only_releases: AbandonOnlyReleases
        => abandon::abandoning_before_the_acquire_prevents_the_grant
    an_abandon_that_only_stores_a_tombstone: AbandonOnlyStoresATombstone
        => abandon::abandoning_after_the_grant_frees_the_key
    an_abandon_that_ends_any_grant: AbandonEndsAnyGrant
        => abandon::abandoning_is_idempotent_and_affects_no_other_lock
    an_abandon_that_replaces_the_previous_tombstone: AbandonReplacesTheTombstone
        => abandon::an_abandoned_id_is_never_granted_again
    tombstones_that_end_with_the_grace: TombstonesEndWithTheGrace
        => abandon::an_abandoned_id_is_never_granted_again

    a_lookup_that_returns_expired_grants: ReturnsExpiredGrants
        => lookup::a_lookup_of_an_expired_lock_finds_nothing
    a_lookup_that_returns_another_lock: ReturnsAnotherLock
        => lookup::a_lock_is_found_by_key_and_by_id
    a_lookup_that_finds_an_unknown_id: ReturnsALockForAnUnknownId
        => lookup::a_lookup_of_a_lock_that_is_not_held_finds_nothing
    a_list_that_drops_one: ListDropsOne => operators::held_locks_are_listed_page_by_page
    a_list_that_repeats_one: ListRepeatsOne => operators::held_locks_are_listed_page_by_page
    a_list_without_a_limit: ListIgnoresTheLimit => operators::held_locks_are_listed_page_by_page
    a_list_without_a_prefix: ListIgnoresThePrefix => operators::held_locks_are_listed_page_by_page
    a_list_that_is_only_claimed: ClaimsAList => operators::held_locks_are_listed_page_by_page
    a_shared_mode_that_is_only_claimed: ClaimsSharedMode
        => invalid::shared_mode_is_granted_or_unsupported
    fences_that_are_only_claimed_to_be_durable: ClaimsToBeDurable
        => lifecycle::a_durable_store_keeps_locks_and_fences_over_a_restart
    a_grace_that_is_only_claimed: ClaimsALongerGrace
        => expiry::a_key_is_not_granted_within_the_grace

    a_subscription_that_never_resolves: NeverWakes => waiting::a_subscription_misses_no_release
    a_subscription_that_always_resolves: AlwaysWakes
        => waiting::a_subscription_stays_pending_between_releases
    a_subscription_that_begins_late: SubscribesLate => waiting::a_subscription_misses_no_release
    a_subscription_without_the_capability: WakesWithoutTheCapability
        => waiting::a_subscription_misses_no_release
    a_subscription_to_releases_alone: NotifiesOnlyOfReleases
        => waiting::a_subscription_is_notified_however_a_grant_ends
    a_subscription_that_misses_forced_releases: ForceReleaseDoesNotNotify
        => waiting::a_subscription_is_notified_however_a_grant_ends
}
