//! The single list of all cases.

/// Passes the list of cases, topic by topic, to another macro.
#[doc(hidden)]
#[macro_export]
macro_rules! __contract_cases {
    ($callback:path $(, $argument:ty)?) => {
        $callback! {
            [$($argument)?]
            lifecycle {
                a_free_key_is_granted_under_the_first_fence
                a_grant_expires_one_ttl_after_it_was_made
                a_released_key_is_free_immediately
                clients_see_each_others_locks
                a_guard_acquires_extends_and_releases
                a_durable_store_keeps_locks_and_fences_over_a_restart
                a_client_whose_connections_are_cut_recovers
                the_store_under_test_passes_its_own_check
            }
            contention {
                a_held_key_is_not_granted_again
                contention_reports_the_holder
                a_contender_does_not_change_the_lock
                exactly_one_of_many_contenders_is_granted
                different_keys_do_not_contend
                a_ttl_begins_after_the_wait_for_the_store
                a_contended_try_is_an_outcome_not_an_error
            }
            expiry {
                an_expired_key_is_granted_again
                a_key_is_not_granted_within_the_grace
                the_holder_can_extend_within_the_grace
                the_holder_can_release_within_the_grace
                the_release_of_an_expired_lock_reports_not_held
                each_grant_has_its_own_ttl
                a_guard_detects_its_own_expiry
                a_guard_is_lost_before_the_key_is_granted_again
                a_kept_lock_ends_with_its_ttl
            }
            ownership {
                a_foreign_id_releases_nothing
                a_foreign_id_extends_nothing
                release_by_a_stale_owner_leaves_the_new_lock_alone
                extend_by_a_stale_owner_leaves_the_new_lock_alone
                a_lock_is_released_at_most_once
                the_lock_id_alone_is_sufficient
                a_wrong_hint_affects_no_other_lock
                a_released_lock_cannot_be_extended
                releasing_one_lock_leaves_the_others_held
            }
            extend {
                an_extended_lock_outlives_its_first_ttl
                an_extend_does_not_add_to_the_remaining_time
                an_extend_can_shorten_the_remaining_time
                an_extend_never_revives_an_expired_grant
                an_extend_counts_from_after_the_wait_for_the_store
                an_extend_keeps_fence_owner_and_start
                extends_of_one_guard_do_not_overtake_each_other
            }
            fencing {
                fences_increase_across_releases
                fences_increase_across_expiries
                a_thousand_grants_have_a_thousand_increasing_fences
                contention_uses_up_no_fence
                extends_and_lookups_use_up_no_fence
                each_key_has_its_own_fence_counter
                racing_contenders_get_increasing_fences
                an_acquire_at_the_fence_limit_fails_and_stores_nothing
            }
            idempotence {
                a_repeated_request_returns_the_stored_grant
                a_repeated_request_does_not_move_the_expiry
                concurrent_requests_with_one_id_get_one_grant
                an_id_whose_grant_has_expired_is_contended
            }
            abandon {
                abandoning_after_the_grant_frees_the_key
                abandoning_before_the_acquire_prevents_the_grant
                an_abandoned_id_is_never_granted_again
                abandoning_during_the_acquire_leaves_no_lock
                abandoning_is_idempotent_and_affects_no_other_lock
                abandoning_a_stale_id_leaves_the_new_lock_alone
            }
            lookup {
                a_lock_is_found_by_key_and_by_id
                a_record_contains_the_time_of_its_read
                a_lookup_of_a_lock_that_is_not_held_finds_nothing
                a_lookup_of_an_expired_lock_finds_nothing
                owner_and_start_are_those_of_the_current_grant
                lookups_return_hashes_unless_the_raw_form_is_requested
            }
            keys {
                the_shortest_and_the_longest_keys_work
                spellings_equal_in_nfc_are_one_lock
                keys_that_only_look_alike_are_different_locks
                emoji_and_all_scripts_work
                reserved_prefixes_are_ordinary_keys
                slashes_nul_and_quotes_work
                fragments_of_sql_and_lua_are_text
            }
            invalid {
                an_invalid_key_is_rejected
                an_invalid_ttl_is_rejected
                the_longest_and_the_shortest_ttl_work
                an_invalid_owner_is_rejected
                shared_mode_without_the_capability_is_rejected
            }
            operators {
                held_locks_are_listed_page_by_page
                expired_locks_are_not_listed
                a_lock_released_by_force_is_free
            }
            retirement {
                seeded_fences_follow_the_clock_of_the_store
                a_retired_counter_is_followed_by_a_higher_fence
                a_counter_in_use_is_not_retired
                the_counter_of_a_held_key_is_not_retired
                a_counter_that_began_at_one_is_not_retired
                the_counter_of_a_key_that_expired_unreleased_is_retired
                counters_are_retired_in_steps
                retiring_counters_that_are_not_seeded_is_rejected
            }
            cancellation {
                an_attempt_dropped_at_any_await_leaves_no_lock
                a_wait_dropped_at_any_await_leaves_no_lock
                a_run_dropped_at_any_await_leaves_no_lock
                a_release_dropped_at_any_await_is_carried_out
                a_grant_made_after_its_caller_was_dropped_is_released
                a_cancelled_token_ends_the_wait_and_the_work
                a_call_with_a_cancelled_token_sends_nothing
                a_cancelled_token_ends_an_attempt_in_flight
                a_cancelled_scope_ends_its_locks_and_its_waits
                a_guard_of_a_cancelled_scope_keeps_its_key_until_it_is_dropped
            }
            failure {
                a_repeat_after_a_lost_reply_returns_the_same_grant
                a_lost_request_is_repeated
                without_any_reply_the_outcome_is_ambiguous_and_the_grant_abandoned
                contention_with_a_lost_reply_is_reported_as_contention
                a_request_that_arrives_after_it_was_abandoned_is_rejected
                a_request_that_arrives_after_its_grant_was_released_is_rejected
                a_request_that_was_not_sent_is_retried_within_the_wait
                a_permanent_error_is_reported_immediately
                a_wait_for_an_unreachable_store_reports_it_as_unavailable
                a_failed_release_is_retried_in_the_background
                a_release_that_fails_permanently_is_reported_to_the_callback
                an_extend_without_a_reply_can_be_repeated
                a_shortening_extend_without_a_reply_counts_as_applied
            }
            guard {
                a_dropped_guard_releases_its_lock
                a_guard_dropped_outside_a_runtime_releases_its_lock
                a_guard_dropped_by_a_panic_releases_its_lock
                a_guard_dropped_after_its_runtime_is_reported_and_expires
                a_renewing_guard_keeps_its_lock
                a_guard_does_not_renew_by_default
                renewals_survive_transient_failures
                a_renewing_guard_is_lost_at_its_deadline_if_the_store_is_unreachable
                a_renewing_guard_is_lost_when_the_store_reports_not_held
                a_lock_is_held_no_longer_than_max_hold
            }
            running {
                work_runs_under_the_lock_and_its_result_is_returned
                work_is_skipped_if_the_lock_is_held
                work_that_outlasts_the_ttl_keeps_the_lock
                work_is_cancelled_when_the_lock_is_lost
                work_is_cancelled_before_the_lease_ends_if_the_store_is_unreachable
                work_that_blocks_past_the_deadline_is_reported_as_lost
                a_panic_in_the_work_releases_the_lock
                work_that_hangs_is_cancelled_by_max_hold
                a_failed_release_keeps_the_result
            }
            patterns {
                once_succeeds_again_only_after_the_ttl
                a_claim_that_is_released_can_be_made_again
                a_claim_leaves_no_counter
                the_fences_of_locks_between_claims_increase
                exactly_one_of_many_claims_is_the_first
                a_claim_and_a_lock_are_not_granted_together
                an_abandoned_claim_leaves_no_lock
                a_throttle_lets_one_caller_pass_per_period
                work_that_ends_early_leaves_its_key_locked_for_min_hold
                a_guard_dropped_early_leaves_its_key_locked_for_min_hold
                a_lock_held_for_min_hold_is_released_immediately
                a_grant_with_a_lost_reply_is_abandoned_after_min_hold
                a_min_hold_beyond_the_ttl_is_rejected
                a_grant_that_no_caller_received_is_not_kept_for_min_hold
            }
            waiting {
                a_waiter_gets_the_lock_when_it_is_released
                a_waiter_gets_the_lock_when_another_process_releases_it
                a_waiter_gets_the_lock_when_the_holders_grant_expires
                a_wait_ends_in_time_and_names_the_holder
                retries_are_bounded_and_a_wait_of_zero_attempts_once
                the_wait_bounds_a_request_in_flight
                waiters_of_one_process_are_served_in_order
                one_waiter_per_process_sends_requests
                a_subscription_misses_no_release
                a_subscription_stays_pending_between_releases
                a_subscription_is_notified_however_a_grant_ends
            }
            parallel {
                many_keys_are_held_at_the_same_time
                tasks_of_two_processes_never_overlap
            }
            shared {
                readers_share_a_key
                readers_that_race_are_all_granted
                a_writer_waits_for_the_last_reader
                a_reader_waits_for_the_writer
                racing_readers_and_writers_never_overlap
                each_holder_has_its_own_grant
                fences_increase_across_both_modes
                a_released_reader_leaves_the_others
                an_extended_reader_leaves_the_others
                racing_holders_change_only_their_own_grants
                an_abandoned_reader_leaves_the_others
                a_key_is_free_after_its_last_reader
                an_id_holds_a_key_in_one_mode
                each_key_has_its_own_mode
                keys_of_any_text_are_shared
                a_reader_at_the_fence_limit_is_rejected
                shared_grants_survive_a_restart
            }
            permits {
                as_many_holders_as_permits_are_admitted
                a_single_permit_admits_one_holder
                the_largest_number_of_permits_works
                a_race_for_the_permits_admits_no_more_than_there_are
                racing_acquires_and_releases_lose_no_permit
                a_freed_permit_admits_one_more
                an_expired_permit_admits_one_more
                another_number_of_permits_is_rejected
                a_repeated_request_takes_no_second_permit
                the_number_of_permits_is_that_of_the_current_holders
            }
            announcements {
                an_announcement_keeps_new_readers_out
                an_announcement_leaves_present_readers_alone
                an_announcement_ends_after_its_time
                an_abandon_removes_the_announcement
                another_id_does_not_remove_the_announcement
                an_announcement_outlives_the_last_reader
                an_announcement_keeps_no_writer_out
                an_exclusive_grant_ends_the_announcement
                a_refused_writer_without_announcement_changes_nothing
                a_later_announcement_replaces_an_earlier_one
                an_earlier_announcement_does_not_shorten_a_later_one
                a_repeated_attempt_prolongs_the_announcement
                an_announcement_that_races_a_release_is_not_lost
                an_announcement_outlives_readers_that_expire
                the_longest_and_the_shortest_announcement_work
                announcements_use_up_no_fence
                an_announcement_behind_a_writer_has_no_effect
                a_request_in_shared_mode_announces_nothing
                an_announced_key_without_holders_is_not_locked
                contention_with_an_announcement_reports_its_end
            }
            shared_requests {
                a_repeated_request_of_a_reader_returns_its_grant
                concurrent_requests_of_one_reader_get_one_grant
                an_abandoned_reader_is_never_granted
                abandoning_a_reader_during_its_acquire_leaves_no_grant
                a_reader_is_released_at_most_once
                a_foreign_id_leaves_readers_alone
                the_id_of_a_reader_decides_whatever_the_hint
                an_expired_reader_never_gets_its_old_grant
            }
            shared_expiry {
                a_crashed_reader_expires_alone
                a_reader_keeps_its_grant_within_the_grace
                no_writer_is_granted_within_the_grace_of_a_reader
                a_writer_is_granted_after_all_readers_have_expired
                an_extended_reader_outlives_its_first_ttl
                a_shortened_reader_ends_sooner
                the_expiry_of_the_key_is_that_of_its_longest_reader
                a_longer_reader_that_left_does_not_keep_the_key
                a_reader_may_have_the_longest_ttl
                readers_in_succession_keep_the_key
            }
            shared_lookup {
                a_shared_record_stands_for_all_holders
                a_shared_record_is_found_by_the_id_of_each_holder
                the_id_of_a_shared_record_holds_nothing
                an_exclusive_record_has_no_shared_holders
                a_shared_key_is_listed_once
                a_release_by_force_ends_all_shared_grants
                a_release_by_force_removes_the_announcement
                contention_with_readers_reports_the_last_to_expire
                contention_for_a_permit_reports_the_first_to_expire
                contention_with_a_writer_reports_the_writer
            }
            shared_waiting {
                a_subscriber_is_notified_when_the_last_reader_leaves
                a_subscriber_is_notified_when_a_permit_becomes_free
                a_subscriber_is_notified_when_an_announcement_is_abandoned
                a_subscription_stays_pending_while_readers_stay
            }
            shared_guards {
                guards_share_a_key
                a_shared_guard_extends_its_own_grant
                a_renewing_shared_guard_keeps_its_grant
                a_dropped_shared_guard_leaves_the_others
                a_shared_guard_that_is_lost_leaves_the_others
                work_in_shared_mode_runs_beside_readers
                waiters_are_granted_a_key_in_the_other_mode
                waiters_for_permits_are_all_served
                another_number_of_permits_ends_the_wait
                a_lost_reply_leaves_one_shared_grant
                a_shared_grant_without_a_reply_is_abandoned
                lookups_of_shared_locks_return_hashes
            }
        }
    };
}

/// Generates one named test for each case of the contract, for a
/// [`Harness`](crate::contract::Harness).
///
/// Expands to one module per topic at the place of the call.
#[macro_export]
macro_rules! contract_tests {
    ($harness:ty) => {
        $crate::__contract_cases!($crate::__contract_tests, $harness);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __contract_tests {
    ([$harness:ty] $($topic:ident { $($case:ident)* })*) => {
        $(
            mod $topic {
                #[allow(unused_imports, reason = "the harness may be named by its full path")]
                use super::*;

                $(
                    #[test]
                    fn $case() {
                        $crate::contract::run::<$harness, _, _>(
                            concat!(stringify!($topic), "::", stringify!($case)),
                            $crate::contract::$topic::$case,
                        );
                    }
                )*
            }
        )*
    };
}

macro_rules! name_cases {
    ([] $($topic:ident { $($case:ident)* })*) => {
        /// Returns the names of all cases, as `topic::case`.
        pub const CASES: &[&str] =
            &[$($(concat!(stringify!($topic), "::", stringify!($case)),)*)*];
    };
}

crate::__contract_cases!(name_cases);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::CASES;

    /// Parses the cases from the sources: the public functions that take a harness.
    fn functions() -> BTreeSet<String> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/contract");
        let mut found = BTreeSet::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let topic = path.file_stem().unwrap().to_str().unwrap().to_owned();
            for line in std::fs::read_to_string(&path).unwrap().lines() {
                let rest = line.strip_prefix("pub async fn ");
                if let Some((name, _)) = rest.and_then(|rest| rest.split_once("<H: Harness>")) {
                    found.insert(format!("{topic}::{name}"));
                }
            }
        }
        found
    }

    #[test]
    fn the_list_names_each_case_once_and_nothing_else() {
        let listed: BTreeSet<String> = CASES.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(listed.len(), CASES.len(), "a case is listed twice");
        assert_eq!(listed, functions());
    }
}
