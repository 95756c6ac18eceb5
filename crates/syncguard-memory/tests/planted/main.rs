//! The contract suite detects broken backends. Each backend here has one flaw and fails the case
//! that is named beside it. The case passes without the flaw.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod announcing;
mod fences;
mod granting;
mod heads;
mod leaving;
mod ownership;
mod reading;
mod retiring;
mod sharing;
mod store;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use syncguard_core::contract::{CaseOutcome, Harness};
use tokio::runtime::Builder;

use self::{
    announcing::*, fences::*, granting::*, heads::*, leaving::*, ownership::*, reading::*,
    retiring::*, sharing::*, store::*,
};

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
    claims_that_are_never_counted: NeverCountsClaims => patterns::a_claim_leaves_no_counter
    claims_that_forget_the_counter: ClaimForgetsTheCounter
        => patterns::the_fences_of_locks_between_claims_increase
    claims_beside_a_holder: ClaimsAreNotRefused
        => patterns::exactly_one_of_many_claims_is_the_first
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
    a_shared_mode_without_the_capability: SharesWithoutTheCapability
        => invalid::shared_mode_without_the_capability_is_rejected
    fences_that_are_only_claimed_to_be_durable: ClaimsToBeDurable
        => lifecycle::a_durable_store_keeps_locks_and_fences_over_a_restart
    a_grace_that_is_only_claimed: ClaimsALongerGrace
        => expiry::a_key_is_not_granted_within_the_grace

    a_retirement_without_seeding: RetiresUnseededCounters
        => retirement::retiring_counters_that_are_not_seeded_is_rejected
    a_retirement_of_held_keys: RetiresHeldCounters
        => retirement::the_counter_of_a_held_key_is_not_retired
    a_retirement_of_young_counters: RetiresYoungCounters
        => retirement::a_counter_in_use_is_not_retired
    a_retirement_that_stops_early: StopsRetiring => retirement::counters_are_retired_in_steps
    a_retired_counter_that_begins_again: RetiredCounterBeginsAgain
        => retirement::a_retired_counter_is_followed_by_a_higher_fence

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

    a_shared_mode_that_is_only_claimed: ClaimsSharedMode => shared::readers_share_a_key
    readers_that_exclude_each_other: TreatsReadersAsWriters => shared::readers_share_a_key
    readers_that_are_overwritten: OverwritesOtherReaders
        => shared::readers_that_race_are_all_granted
    writers_beside_readers: WritersIgnoreReaders => shared::a_writer_waits_for_the_last_reader
    writers_behind_one_reader: WritersWaitForTheFirstReader
        => shared::a_writer_waits_for_the_last_reader
    readers_beside_a_writer: ReadersIgnoreWriters => shared::a_reader_waits_for_the_writer
    modes_that_are_read_before_they_are_written: ReadsThenWrites
        => shared::racing_readers_and_writers_never_overlap
    one_expiry_for_all_readers: ReadersShareAnExpiry => shared::each_holder_has_its_own_grant
    readers_without_owners: LosesTheOwner => shared::each_holder_has_its_own_grant
    one_fence_for_all_readers: ReadersShareAFence => shared::fences_increase_across_both_modes
    a_release_of_all_readers: ReleaseEndsAllReaders => shared::a_released_reader_leaves_the_others
    an_extend_of_all_readers: ExtendMovesAllReaders => shared::an_extended_reader_leaves_the_others
    readers_that_are_written_back: ExtendWritesAllReadersBack
        => shared::racing_holders_change_only_their_own_grants
    an_abandon_of_all_readers: AbandonEndsAnyGrant
        => shared::an_abandoned_reader_leaves_the_others
    a_last_reader_that_leaves_its_grace: TheLastReaderLeavesItsGrace
        => shared::a_key_is_free_after_its_last_reader
    an_id_in_both_modes: AnIdChangesItsMode => shared::an_id_holds_a_key_in_one_mode
    one_mode_for_all_keys: AllKeysHaveOneMode => shared::each_key_has_its_own_mode
    shared_keys_that_end_at_nul: CutsKeysAtNul => shared::keys_of_any_text_are_shared
    a_shared_counter_that_wraps_around: CounterWrapsAround
        => shared::a_reader_at_the_fence_limit_is_rejected
    shared_grants_that_are_only_claimed_to_be_durable: ClaimsToBeDurable
        => shared::shared_grants_survive_a_restart

    one_holder_too_many: AdmitsOneTooMany => permits::as_many_holders_as_permits_are_admitted
    a_single_permit_without_limit: OnePermitIsNoLimit => permits::a_single_permit_admits_one_holder
    permits_as_small_numbers: KeepsHalfOfThePermits => permits::the_largest_number_of_permits_works
    permits_that_are_counted_before_the_write: CountsThenWrites
        => permits::a_race_for_the_permits_admits_no_more_than_there_are
    permits_that_refused_requests_take: RefusedRequestsTakePermits
        => permits::racing_acquires_and_releases_lose_no_permit
    a_freed_permit_that_keeps_its_grace: ReleasedKeyKeepsItsGrace
        => permits::a_freed_permit_admits_one_more
    permits_of_expired_holders: CountsExpiredHolders => permits::an_expired_permit_admits_one_more
    any_number_of_permits: AcceptsAnyNumberOfPermits
        => permits::another_number_of_permits_is_rejected
    another_number_of_permits_as_contention: RefusesAnotherNumberOfPermits
        => permits::another_number_of_permits_is_rejected
    a_holder_refused_its_own_permit: RefusesTheHoldersOfAFullKey
        => permits::a_repeated_request_takes_no_second_permit
    permits_that_outlast_their_holders: NeverForgetsThePermits
        => permits::the_number_of_permits_is_that_of_the_current_holders

    announcements_without_effect: IgnoresAnnouncements
        => announcements::an_announcement_keeps_new_readers_out
    announcements_that_refuse_present_readers: AnnouncementsRefusePresentReaders
        => announcements::an_announcement_leaves_present_readers_alone
    announcements_that_refuse_extends: AnnouncementsRefuseExtends
        => announcements::an_announcement_leaves_present_readers_alone
    announcements_without_end: AnnouncementsNeverEnd
        => announcements::an_announcement_ends_after_its_time
    an_announcement_of_an_abandoned_writer: AbandonLeavesTheAnnouncement
        => announcements::an_abandon_removes_the_announcement
    an_announcement_that_any_abandon_removes: AnyAbandonRemovesTheAnnouncement
        => announcements::another_id_does_not_remove_the_announcement
    an_announcement_that_leaves_with_the_last_reader: TheLastReaderTakesTheAnnouncement
        => announcements::an_announcement_outlives_the_last_reader
    an_announcement_against_writers: AnnouncementsKeepWritersOut
        => announcements::an_announcement_keeps_no_writer_out
    an_announcement_that_outlives_a_writer: GrantsLeaveTheAnnouncement
        => announcements::an_exclusive_grant_ends_the_announcement
    writers_that_are_announced_unasked: AnnouncesEveryWriter
        => announcements::a_refused_writer_without_announcement_changes_nothing
    a_first_announcement_that_stays: TheFirstAnnouncementStays
        => announcements::a_later_announcement_replaces_an_earlier_one
    an_announcement_that_is_shortened: TheLastAnnouncementReplacesAll
        => announcements::an_earlier_announcement_does_not_shorten_a_later_one
    an_announcement_that_is_not_prolonged: WritersAnnounceThemselvesOnce
        => announcements::a_repeated_attempt_prolongs_the_announcement
    a_fence_used_up_by_an_announcement: ContentionUsesUpAFence
        => announcements::announcements_use_up_no_fence
    an_announcement_behind_a_writer: AnnouncesBehindAWriter
        => announcements::an_announcement_behind_a_writer_has_no_effect
    an_announcement_in_shared_mode: AnnouncesSharedRequests
        => announcements::a_request_in_shared_mode_announces_nothing
    an_announced_key_that_is_shown: ShowsAnnouncedKeys
        => announcements::an_announced_key_without_holders_is_not_locked
    an_announcement_whose_end_is_not_reported: ReportsNoEndOfAnAnnouncement
        => announcements::contention_with_an_announcement_reports_its_end
    an_announcement_in_a_second_step: AnnouncesInASecondStep
        => announcements::an_announcement_that_races_a_release_is_not_lost
    an_announcement_that_expires_with_the_readers: AnnouncementsExpireWithTheReaders
        => announcements::an_announcement_outlives_readers_that_expire
    a_long_announcement_that_overflows: LongAnnouncementsOverflow
        => announcements::the_longest_and_the_shortest_announcement_work

    a_repeated_reader_that_extends: RepeatedRequestExtends
        => shared_requests::a_repeated_request_of_a_reader_returns_its_grant
    a_repeated_reader_with_two_grants: GrantsRepeatedReadersAnew
        => shared_requests::concurrent_requests_of_one_reader_get_one_grant
    an_abandon_that_only_releases_readers: AbandonOnlyReleases
        => shared_requests::an_abandoned_reader_is_never_granted
    tombstones_of_readers_that_end_with_the_grace: TombstonesEndWithTheGrace
        => shared_requests::an_abandoned_reader_is_never_granted
    an_abandon_that_misses_a_late_reader: AbandonMissesAcquiresInFlight
        => shared_requests::abandoning_a_reader_during_its_acquire_leaves_no_grant
    a_reader_released_twice: ReleasesTwice
        => shared_requests::a_reader_is_released_at_most_once
    readers_that_any_id_releases: AnyIdReleases
        => shared_requests::a_foreign_id_leaves_readers_alone
    a_hint_that_overrides_the_reader: TheHintOverridesTheReader
        => shared_requests::the_id_of_a_reader_decides_whatever_the_hint
    an_expired_reader_that_is_remembered: RemembersExpiredGrants
        => shared_requests::an_expired_reader_never_gets_its_old_grant

    readers_that_live_as_long_as_the_key: ReadersLiveAsLongAsTheKey
        => shared_expiry::a_crashed_reader_expires_alone
    no_grace_for_readers: NoGraceForTheHolder
        => shared_expiry::a_reader_keeps_its_grant_within_the_grace
    no_grace_against_writers: NoGrace
        => shared_expiry::no_writer_is_granted_within_the_grace_of_a_reader
    expired_readers_that_keep_the_key: ExpiredReadersKeepTheKey
        => shared_expiry::a_writer_is_granted_after_all_readers_have_expired
    an_extend_of_a_reader_that_is_not_stored: ExtendIsNotStored
        => shared_expiry::an_extended_reader_outlives_its_first_ttl
    an_extend_that_never_shortens_readers: ExtendNeverShortens
        => shared_expiry::a_shortened_reader_ends_sooner
    an_expiry_that_never_shrinks: TheExpiryNeverShrinks
        => shared_expiry::the_expiry_of_the_key_is_that_of_its_longest_reader
    time_that_a_reader_leaves_to_others: ReadersLeaveTheirTimeToOthers
        => shared_expiry::a_longer_reader_that_left_does_not_keep_the_key
    a_long_extend_that_overflows: LongExtendsOverflow
        => shared_expiry::a_reader_may_have_the_longest_ttl
    a_first_reader_that_ends_the_key: TheFirstReaderEndsTheKey
        => shared_expiry::readers_in_succession_keep_the_key

    a_record_of_the_last_reader: ShowsTheLastReader
        => shared_lookup::a_shared_record_stands_for_all_holders
    readers_that_are_not_found_by_id: FindsNoReaderById
        => shared_lookup::a_shared_record_is_found_by_the_id_of_each_holder
    an_id_of_the_record_that_releases: TheIdOfTheRecordReleases
        => shared_lookup::the_id_of_a_shared_record_holds_nothing
    a_record_with_former_readers: ShowsFormerReaders
        => shared_lookup::an_exclusive_record_has_no_shared_holders
    a_list_of_readers: ListsEachReader => shared_lookup::a_shared_key_is_listed_once
    a_forced_release_of_one_reader: ForceEndsOneReader
        => shared_lookup::a_release_by_force_ends_all_shared_grants
    a_forced_release_that_leaves_the_announcement: ForceLeavesTheAnnouncement
        => shared_lookup::a_release_by_force_removes_the_announcement
    contention_that_reports_the_first_reader: ReportsTheFirstReaderToExpire
        => shared_lookup::contention_with_readers_reports_the_last_to_expire
    contention_that_counts_permits: ReportsThePermitsAsHolders
        => shared_lookup::contention_with_readers_reports_the_last_to_expire
    contention_that_reports_the_last_permit: ReportsTheLastPermitToExpire
        => shared_lookup::contention_for_a_permit_reports_the_first_to_expire
    contention_that_reports_a_writer_as_a_reader: ReportsTheModeOfTheRequest
        => shared_lookup::contention_with_a_writer_reports_the_writer

    readers_that_leave_unnoticed: NotifiesOnlyOfReleases
        => shared_waiting::a_subscriber_is_notified_when_the_last_reader_leaves
    permits_that_become_free_unnoticed: FreedPermitsDoNotNotify
        => shared_waiting::a_subscriber_is_notified_when_a_permit_becomes_free
    announcements_that_are_abandoned_unnoticed: AbandonedAnnouncementsDoNotNotify
        => shared_waiting::a_subscriber_is_notified_when_an_announcement_is_abandoned
    readers_that_notify_although_they_stay: AlwaysWakes
        => shared_waiting::a_subscription_stays_pending_while_readers_stay

    guards_that_exclude_each_other: TreatsReadersAsWriters => shared_guards::guards_share_a_key
    guards_that_extend_each_other: ExtendMovesAllReaders
        => shared_guards::a_shared_guard_extends_its_own_grant
    guards_that_release_each_other: ReleaseEndsAllReaders
        => shared_guards::a_dropped_shared_guard_leaves_the_others
    guards_that_are_lost_together: ReleaseEndsAllReaders
        => shared_guards::a_shared_guard_that_is_lost_leaves_the_others
    work_that_releases_readers: ReleaseEndsAllReaders
        => shared_guards::work_in_shared_mode_runs_beside_readers
    writers_that_never_follow_readers: WritersNeverFollowReaders
        => shared_guards::waiters_are_granted_a_key_in_the_other_mode
    waiters_with_one_permit_too_many: AdmitsOneTooMany
        => shared_guards::waiters_for_permits_are_all_served
    a_wait_for_another_number_of_permits: RefusesAnotherNumberOfPermits
        => shared_guards::another_number_of_permits_ends_the_wait
    a_lost_reply_with_two_grants: GrantsRepeatedReadersAnew
        => shared_guards::a_lost_reply_leaves_one_shared_grant
    a_shared_grant_that_is_not_abandoned: AbandonOnlyStoresATombstone
        => shared_guards::a_shared_grant_without_a_reply_is_abandoned
    guards_that_are_not_found_by_id: FindsNoReaderById
        => shared_guards::lookups_of_shared_locks_return_hashes
}
