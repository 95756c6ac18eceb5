//! Network failures.

use std::{future::Future, pin::pin, task::Poll};

use syncguard_core::backend::LockBackend;
use syncguard_postgres::PostgresBackend;
use syncguard_testkit::{
    operations::{LONG, ask, granted, is_contended, released},
    proxy::{Flow, Occurrences},
    sql::{
        Setting,
        network::{self, Network, run_each_operation},
    },
};

use crate::Names;

/// The message by which a client requests the answers to all that it has sent. Each is a round
/// trip.
pub(crate) const SYNC: &[u8] = b"S\0\0\0\x04";

#[tokio::test]
async fn each_operation_is_one_round_trip() {
    let network = Network::<Names>::up().await;
    let backend = network.open(&[Setting::MaxConnections(2)]).await;
    granted(&backend, &ask("other", LONG)).await;
    // The first time, each is prepared.
    run_each_operation(&backend).await;
    let trips = network.proxy.tally(Flow::Requests, || Occurrences::of(SYNC));
    let operations = run_each_operation(&backend).await;
    assert_eq!(trips.total(), operations);
}

/// A client that found a key held sends a lookup before its next attempt. This must cost nothing if
/// the client is notified of the release, and must not keep it from a key that was released without
/// a notification.
#[tokio::test]
async fn a_key_that_was_held_is_looked_up_first_until_its_release_is_notified() {
    let network = Network::<Names>::up().await;
    let config = network.tables.config(&network.url()).max_connections(2);
    let backend =
        PostgresBackend::connect(config.listen_url(&network.server.url()).unwrap()).await.unwrap();
    let peer = network.past_the_proxy().await;
    // Returns the round trips of an acquire after the release of a key that this client found held.
    let trips = async |holder: &PostgresBackend, notified: bool| {
        let (held, next) = (ask("job", LONG), ask("job", LONG));
        granted(holder, &held).await;
        let mut notification = pin!(backend.released(&held.key));
        if notified {
            notification.as_mut().await;
            assert!(
                is_contended(&backend, "job").await,
                "the key is watched, and that was the news"
            );
            notification.set(backend.released(&held.key));
            assert!(
                std::future::poll_fn(|context| Poll::Ready(
                    notification.as_mut().poll(context).is_pending()
                ))
                .await
            );
        }
        assert!(is_contended(&backend, "job").await && is_contended(&backend, "job").await);
        assert!(released(holder, &held).await);
        if notified {
            notification.await;
        }
        let tally = network.proxy.tally(Flow::Requests, || Occurrences::of(SYNC));
        granted(&backend, &next).await;
        let trips = tally.total();
        assert!(released(&backend, &next).await);
        trips
    };
    // The first time, each statement is prepared.
    trips(&peer, false).await;
    assert_eq!(trips(&peer, false).await, 2);
    assert_eq!(trips(&backend, false).await, 1);
    assert_eq!(trips(&peer, true).await, 1);
}

#[tokio::test]
async fn five_hundred_lost_answers_to_commits_yield_five_hundred_grants_and_leave_no_lock() {
    // Acquires name the counter. Abandons, which may follow in a later attempt, do not.
    let counter = |text: &str| format!("fence:{text}");
    network::lost_answers_yield_a_grant_each_and_leave_no_lock::<Names>(500, counter).await;
}

#[tokio::test]
async fn a_statement_without_an_answer_ends_and_its_outcome_is_unknown() {
    network::a_statement_without_an_answer_ends_and_its_outcome_is_unknown::<Names>().await;
}

#[tokio::test]
async fn an_operation_without_a_connection_is_reported_as_not_applied() {
    network::an_operation_without_a_connection_is_reported_as_not_applied::<Names>().await;
}

#[tokio::test]
async fn a_lookup_over_a_connection_that_was_lost_is_sent_again() {
    network::a_lookup_over_a_connection_that_was_lost_is_sent_again::<Names>().await;
}

#[tokio::test]
async fn an_abandon_that_overtakes_its_acquire_leaves_no_ghost_in_300_attempts() {
    network::an_abandon_that_overtakes_its_acquire_leaves_no_ghost_in_300_attempts::<Names>().await;
}

#[tokio::test]
async fn an_acquire_that_is_dropped_before_it_has_a_connection_is_never_sent() {
    network::an_acquire_that_is_dropped_before_it_has_a_connection_is_never_sent::<Names>().await;
}

#[tokio::test]
async fn a_future_that_is_no_longer_polled_holds_no_connection() {
    network::a_future_that_is_no_longer_polled_holds_no_connection::<Names>().await;
}

#[test]
fn a_backend_belongs_to_the_runtime_that_it_was_opened_on() {
    network::a_backend_belongs_to_the_runtime_that_it_was_opened_on::<Names>();
}
