//! The contract suite notices broken backends: each has one flaw, and fails the case that is named
//! beside it, which passes without the flaw.

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

/// Longer than any case waits, in virtual time.
const LIMIT: Duration = Duration::from_secs(600);

/// Runs one case in virtual time.
fn verdict<H: Harness, F>(case: impl FnOnce(H) -> F) -> CaseOutcome
where
    F: Future<Output: Into<CaseOutcome>>,
{
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let case = async { case(H::start().await).await.into() };
    runtime.block_on(async { tokio::time::timeout(LIMIT, case).await }).expect("it ends")
}

macro_rules! planted {
    ($($name:ident: $flaw:ident => $topic:ident::$case:ident)*) => {
        $(
            #[test]
            fn $name() {
                use syncguard_core::contract::$topic::$case;

                // Without the flaw it passes, or is skipped where the flaw is a capability.
                let _ = verdict::<Planted<Sound<$flaw>>, _>($case);
                let flawed = || verdict::<Planted<$flaw>, _>($case);
                let noticed = catch_unwind(AssertUnwindSafe(flawed)).is_err();
                assert!(noticed, "the case does not notice the flaw");
            }
        )*
    };
}

planted! {
    a_key_granted_twice: NotExclusive => contention::a_held_key_is_not_granted_again
    a_look_apart_from_its_write: LooksThenWrites => contention::one_of_many_contenders_is_granted
    a_contender_that_extends: ContenderExtends => contention::a_contender_leaves_the_lock_as_it_is
    a_lost_owner: LosesTheOwner => contention::contention_tells_about_the_holder
    a_holder_without_grace: HolderWithoutGrace => contention::contention_tells_about_the_holder
    a_ttl_from_before_the_wait: GrantsLate => contention::a_ttl_begins_after_the_wait_for_the_store
    an_id_that_contends_with_itself: NotIdempotent
        => idempotence::asking_again_with_the_same_id_gives_the_stored_grant
    asking_again_that_extends: AskingAgainExtends => idempotence::asking_again_moves_no_expiry
    no_grace: NoGrace => expiry::a_key_is_not_granted_within_the_grace
    no_grace_for_the_holder: NoGraceForTheHolder => expiry::the_holder_can_extend_within_the_grace
    a_released_key_with_a_grace: KeepsTheGraceOfAReleased => lifecycle::a_released_key_is_free_at_once
    a_former_owner: KeepsAFormerOwner => lookup::label_and_start_go_with_their_grant
    keys_without_case: IgnoresCase => keys::keys_that_only_look_alike_are_different_locks
    a_refusal_that_is_stored: StoresWhatItRefuses
        => abandon::abandoned_before_the_grant_the_id_is_refused

    a_fence_reset_by_a_release: ReleaseResetsTheFence => fencing::fences_increase_over_releases
    a_fence_reset_by_expiry: ExpiryResetsTheFence => fencing::fences_increase_over_expiries
    a_fence_reset_by_force: ForceResetsTheFence => operators::a_lock_released_by_force_is_free
    a_fence_burnt_by_contention: ContentionBurnsAFence => fencing::contention_burns_no_fence
    one_counter_for_all_keys: OneCounterForAllKeys => fencing::keys_count_their_fences_apart
    a_counter_that_wraps_around: CounterWrapsAround
        => fencing::a_counter_at_its_limit_refuses_and_stores_nothing

    a_release_by_anybody: AnybodyReleases => ownership::a_foreign_id_releases_nothing
    an_extend_by_anybody: AnybodyExtends => ownership::a_foreign_id_extends_nothing
    a_second_release: ReleasesTwice => ownership::a_lock_is_released_at_most_once
    a_hint_that_is_believed: TrustsTheHint => ownership::a_wrong_hint_does_no_harm
    a_hint_that_is_needed: NeedsTheHint => ownership::the_id_alone_is_enough
    an_extend_that_adds: ExtendAdds => extend::an_extend_replaces_and_never_adds
    an_extend_that_never_shortens: ExtendNeverShortens => extend::an_extend_can_shorten
    an_extend_that_revives: ExtendRevives => extend::an_extend_never_revives
    an_extend_that_is_not_stored: ExtendIsNotStored
        => extend::an_extended_lock_outlives_its_first_ttl
    an_extend_that_loses_the_owner: ExtendLosesTheOwner
        => extend::an_extend_keeps_fence_owner_and_start
    an_extend_from_before_the_wait: ExtendsLate
        => extend::an_extend_counts_from_after_the_wait_for_the_store

    an_abandon_that_only_releases: AbandonOnlyReleases
        => abandon::abandoned_before_the_grant_the_id_is_refused
    an_abandon_that_only_marks: AbandonOnlyMarks
        => abandon::abandoned_after_the_grant_the_key_is_free
    an_abandon_that_ends_anybody: AbandonEndsAnybody
        => abandon::abandoning_is_repeatable_and_harms_nobody
    an_abandon_that_forgets_the_one_before: AbandonForgetsTheOneBefore
        => abandon::an_abandoned_id_stays_refused
    marks_that_end_with_the_grace: MarksEndWithTheGrace => abandon::an_abandoned_id_stays_refused

    a_lookup_of_the_expired: ShowsTheExpired => lookup::what_has_expired_is_not_found
    a_lookup_that_answers_for_another_key: AnswersForAnotherKey
        => lookup::a_lock_is_found_by_key_and_by_id
    a_lookup_that_answers_for_an_unknown_id: AnswersForAnUnknownId
        => lookup::what_is_not_held_is_not_found
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

    a_watch_that_never_resolves: NeverWakes => waiting::a_subscription_misses_no_release
    a_watch_that_always_resolves: AlwaysWakes => waiting::a_subscription_rests_between_releases
    a_watch_that_begins_late: SubscribesLate => waiting::a_subscription_misses_no_release
    a_watch_that_was_not_claimed: WakesUnclaimed => waiting::a_subscription_misses_no_release
    a_watch_of_releases_alone: NotifiesOfReleasesAlone
        => waiting::a_subscription_sees_every_way_to_end_a_grant
    a_watch_that_misses_what_is_forced: ForceNotifiesNoOne
        => waiting::a_subscription_sees_every_way_to_end_a_grant
}
