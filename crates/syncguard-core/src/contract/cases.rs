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
                a_grant_expires_a_ttl_after_the_store_made_it
                a_released_key_is_free_at_once
                clients_see_each_others_locks
                a_guard_acquires_extends_and_releases
                a_durable_store_keeps_locks_and_fences_over_a_restart
                a_client_whose_connections_are_cut_serves_again
                the_store_under_test_passes_its_own_check
            }
            contention {
                a_held_key_is_not_granted_again
                contention_tells_about_the_holder
                a_contender_leaves_the_lock_as_it_is
                one_of_many_contenders_is_granted
                different_keys_do_not_contend
                a_ttl_begins_after_the_wait_for_the_store
                a_contended_try_is_an_outcome
            }
            expiry {
                an_expired_key_is_granted_again
                a_key_is_not_granted_within_the_grace
                the_holder_can_extend_within_the_grace
                the_holder_can_release_within_the_grace
                the_release_of_an_expired_lock_finds_nothing
                each_grant_has_its_own_ttl
                a_guard_notices_that_it_ran_out
                a_guard_is_lost_before_the_key_is_granted_again
                a_kept_lock_ends_with_its_ttl
            }
            ownership {
                a_foreign_id_releases_nothing
                a_foreign_id_extends_nothing
                release_by_a_stale_owner_leaves_the_new_lock_alone
                extend_by_a_stale_owner_leaves_the_new_lock_alone
                a_lock_is_released_at_most_once
                the_id_alone_is_enough
                a_wrong_hint_does_no_harm
                a_released_lock_cannot_be_extended
                releasing_one_lock_leaves_the_others
            }
            extend {
                an_extended_lock_outlives_its_first_ttl
                an_extend_replaces_and_never_adds
                an_extend_can_shorten
                an_extend_never_revives
                an_extend_counts_from_after_the_wait_for_the_store
                an_extend_keeps_fence_owner_and_start
                extends_of_one_guard_do_not_overtake_each_other
            }
            fencing {
                fences_increase_over_releases
                fences_increase_over_expiries
                a_thousand_grants_have_a_thousand_increasing_fences
                contention_burns_no_fence
                extends_and_lookups_burn_no_fence
                keys_count_their_fences_apart
                racing_contenders_get_increasing_fences
                a_counter_at_its_limit_refuses_and_stores_nothing
            }
            idempotence {
                asking_again_with_the_same_id_gives_the_stored_grant
                asking_again_moves_no_expiry
                one_id_gets_one_grant_however_many_ask
                an_id_whose_grant_is_over_is_contended
            }
            abandon {
                abandoned_after_the_grant_the_key_is_free
                abandoned_before_the_grant_the_id_is_refused
                an_abandoned_id_stays_refused
                abandoned_during_the_grant_the_id_holds_nothing
                abandoning_is_repeatable_and_harms_nobody
                abandoning_a_stale_id_leaves_the_new_lock_alone
            }
            lookup {
                a_lock_is_found_by_key_and_by_id
                a_record_says_when_it_was_read
                what_is_not_held_is_not_found
                what_has_expired_is_not_found
                label_and_start_go_with_their_grant
                lookups_show_hashes_unless_the_raw_form_is_asked_for
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
                a_bad_key_is_refused
                a_bad_ttl_is_refused
                the_longest_and_the_shortest_ttl_work
                a_bad_owner_is_refused
                shared_mode_is_granted_or_unsupported
            }
            operators {
                held_locks_are_listed_page_by_page
                expired_locks_are_not_listed
                a_lock_released_by_force_is_free
            }
            cancellation {
                an_attempt_dropped_at_any_await_leaves_nothing
                a_wait_dropped_at_any_await_leaves_nothing
                a_run_dropped_at_any_await_leaves_nothing
                a_release_dropped_at_any_await_is_carried_out
                a_grant_made_after_its_caller_has_gone_is_released
                a_cancelled_token_ends_the_wait_and_the_work
                a_token_cancelled_beforehand_sends_nothing
                a_token_ends_an_attempt_that_is_on_its_way
                a_cancelled_scope_ends_its_locks_and_its_waits
                a_guard_of_a_cancelled_scope_keeps_its_key_until_it_is_dropped
            }
            failure {
                a_lost_reply_is_asked_for_again_and_gives_the_same_grant
                a_lost_request_is_asked_again
                without_any_reply_the_outcome_is_ambiguous_and_called_off
                contention_with_a_lost_reply_is_contention
                a_request_that_arrives_after_it_was_given_up_is_refused
                a_request_that_arrives_after_its_grant_was_given_back_is_refused
                what_was_not_sent_is_tried_again_within_the_wait
                what_no_repetition_cures_is_reported_at_once
                a_wait_without_a_store_reports_the_store
                a_failed_release_is_repeated_in_the_background
                a_release_that_fails_for_good_reaches_the_callback
                an_extend_without_an_answer_may_be_repeated
                a_shortening_extend_without_an_answer_counts
            }
            guard {
                a_dropped_guard_releases_its_lock
                a_guard_dropped_outside_a_runtime_releases_its_lock
                a_guard_dropped_by_a_panic_releases_its_lock
                a_guard_dropped_after_its_runtime_is_counted_and_expires
                a_renewing_guard_keeps_its_lock
                a_guard_does_not_renew_unless_asked
                renewals_survive_a_passing_failure
                a_renewing_guard_without_a_store_is_lost_at_its_deadline
                a_renewing_guard_is_lost_when_the_store_says_so
                a_lock_is_held_no_longer_than_max_hold
            }
            running {
                work_runs_under_the_lock_and_its_result_is_given
                work_is_skipped_where_the_lock_is_held
                work_that_outlasts_the_ttl_keeps_the_lock
                work_is_cancelled_when_the_lock_is_taken_away
                work_is_cancelled_before_the_lease_ends_without_a_store
                work_that_blocks_past_the_deadline_is_reported_as_lost
                a_panic_in_the_work_releases_the_lock
                a_hung_job_is_cut_off_by_max_hold
                a_failed_release_keeps_the_result
            }
            patterns {
                once_is_the_first_until_its_ttl_is_over
                a_claim_that_is_given_back_can_be_made_again
                a_throttle_lets_one_pass_in_its_time
                a_job_that_ends_early_leaves_its_key_taken_for_min_hold
                a_guard_dropped_early_leaves_its_key_taken_for_min_hold
                a_lock_held_for_min_hold_is_released_at_once
                a_doubtful_grant_is_called_off_after_min_hold
                a_min_hold_beyond_the_ttl_is_refused
                a_grant_that_nobody_received_is_not_kept_for_min_hold
            }
            waiting {
                a_waiter_gets_the_lock_when_it_is_released
                a_waiter_gets_the_lock_when_another_process_releases_it
                a_waiter_gets_the_lock_when_its_holder_is_gone
                a_wait_ends_in_time_and_names_the_holder
                retries_are_bounded_and_a_wait_of_zero_asks_once
                the_wait_bounds_a_request_on_its_way
                waiters_of_one_process_are_served_in_order
                one_waiter_of_a_process_asks_the_store
                a_subscription_misses_no_release
                a_subscription_rests_between_releases
                a_subscription_sees_every_way_to_end_a_grant
            }
            parallel {
                many_keys_are_held_at_the_same_time
                tasks_of_two_processes_never_overlap
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
