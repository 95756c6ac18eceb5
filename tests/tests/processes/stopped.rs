//! Holders that are stopped for longer than they may hold.

use std::time::Duration;

use syncguard_core::Ttl;
use syncguard_testkit::contender::{Admission, Order, Upkeep, Word};

use super::{Stage, hold};

/// Stops a holder until somebody else has its lock, and wakes it.
fn oversleep(upkeep: Upkeep) {
    let stage = Stage::new();
    let write = Order::Write(stage.resource());
    let ttl = Ttl::new(Duration::from_millis(500)).unwrap();
    let (mut sleeper, mut next) = (stage.contender(), stage.contender());
    let stale = hold(&mut sleeper, ttl, upkeep);
    assert_eq!(sleeper.ask(&write).unwrap(), Word::Wrote(Admission::Accepted));

    sleeper.process().stop().unwrap();
    let fence = hold(&mut next, Ttl::default(), Upkeep::LeftAlone);
    assert!(fence > stale, "{fence} after {stale}");
    assert_eq!(next.ask(&write).unwrap(), Word::Wrote(Admission::Accepted));
    // Its first act on waking will be to ask how its lock stands.
    sleeper.tell(&Order::Report).unwrap();
    assert!(sleeper.process().is_stopped().unwrap(), "it slept all the time");

    sleeper.process().resume().unwrap();
    assert_eq!(sleeper.hear().unwrap(), Word::Standing { valid: false, fence: None });
    assert_eq!(sleeper.ask(&write).unwrap(), Word::Wrote(Admission::Refused));

    // It must not take the lock of its successor along, neither by renewing nor by releasing.
    assert_eq!(sleeper.ask(&Order::Release).unwrap(), Word::Released);
    sleeper.finish().unwrap();
    let standing = Word::Standing { valid: true, fence: Some(fence) };
    assert_eq!(next.ask(&Order::Report).unwrap(), standing);
    assert_eq!(next.ask(&write).unwrap(), Word::Wrote(Admission::Accepted));
    next.finish().unwrap();
}

#[test]
fn a_holder_that_was_stopped_past_its_ttl_knows_it_on_waking_and_is_refused_at_the_resource() {
    oversleep(Upkeep::LeftAlone);
}

#[test]
fn a_renewing_holder_that_was_stopped_past_its_ttl_knows_it_on_waking_too() {
    oversleep(Upkeep::Renewed);
}
