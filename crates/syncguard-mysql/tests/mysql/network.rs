//! Network failures.

use syncguard_testkit::{
    operations::{LONG, ask, granted},
    proxy::{Flow, Occurrences},
    sql::{
        Setting,
        network::{self, Network, run_each_operation},
    },
};

use crate::Name;

/// The beginning of a message with a text of statements: the end of its length, its number, its
/// kind. Each is a round trip.
const QUERY: &[u8] = b"\0\0\x03";

/// Returns a text in the form in which it is sent.
fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02X}")).collect()
}

#[tokio::test]
async fn each_operation_is_one_round_trip() {
    let network = Network::<Name>::up().await;
    let backend = network.open(&[Setting::MaxConnections(2)]).await;
    granted(&backend, &ask("other", LONG)).await;
    let trips = network.proxy.tally(Flow::Requests, || Occurrences::of(QUERY));
    let operations = run_each_operation(&backend).await;
    assert_eq!(trips.total(), operations);
}

#[tokio::test]
async fn four_hundred_lost_answers_yield_four_hundred_grants_and_leave_no_lock() {
    network::lost_answers_yield_a_grant_each_and_leave_no_lock::<Name>(400, hex).await;
}

#[tokio::test]
async fn a_statement_without_an_answer_ends_and_its_outcome_is_unknown() {
    network::a_statement_without_an_answer_ends_and_its_outcome_is_unknown::<Name>().await;
}

#[tokio::test]
async fn an_operation_without_a_connection_is_reported_as_not_applied() {
    network::an_operation_without_a_connection_is_reported_as_not_applied::<Name>().await;
}

#[tokio::test]
async fn a_lookup_over_a_connection_that_was_lost_is_sent_again() {
    network::a_lookup_over_a_connection_that_was_lost_is_sent_again::<Name>().await;
}

#[tokio::test]
async fn an_abandon_that_overtakes_its_acquire_leaves_no_ghost_in_300_attempts() {
    network::an_abandon_that_overtakes_its_acquire_leaves_no_ghost_in_300_attempts::<Name>().await;
}

#[tokio::test]
async fn an_acquire_that_is_dropped_before_it_has_a_connection_is_never_sent() {
    network::an_acquire_that_is_dropped_before_it_has_a_connection_is_never_sent::<Name>().await;
}

#[tokio::test]
async fn a_future_that_is_no_longer_polled_holds_no_connection() {
    network::a_future_that_is_no_longer_polled_holds_no_connection::<Name>().await;
}

#[test]
fn a_backend_belongs_to_the_runtime_that_it_was_opened_on() {
    network::a_backend_belongs_to_the_runtime_that_it_was_opened_on::<Name>();
}
