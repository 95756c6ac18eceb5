//! Holders that are stopped for longer than their ttl.

use std::time::Duration;

use syncguard_core::Ttl;
use syncguard_testkit::contender::{Command, Renewal, Reply, WriteResult};

use super::{SharedDir, hold};

/// Stops a holder until another process holds its lock, and resumes it.
fn stop_past_ttl(renewal: Renewal) {
    let dir = SharedDir::new();
    let write = Command::Write(dir.resource());
    let ttl = Ttl::new(Duration::from_millis(500)).unwrap();
    let (mut stopped, mut next) = (dir.contender(), dir.contender());
    let stale = hold(&mut stopped, ttl, renewal);
    assert_eq!(stopped.request(&write).unwrap(), Reply::Written(WriteResult::Accepted));

    stopped.process().stop().unwrap();
    let fence = hold(&mut next, Ttl::default(), Renewal::Disabled);
    assert!(fence > stale, "{fence} after {stale}");
    assert_eq!(next.request(&write).unwrap(), Reply::Written(WriteResult::Accepted));
    // The first thing it does when it is resumed is to read the status of its lock.
    stopped.send(&Command::Report).unwrap();
    assert!(stopped.process().is_stopped().unwrap(), "it slept all the time");

    stopped.process().resume().unwrap();
    assert_eq!(stopped.receive().unwrap(), Reply::Status { valid: false, fence: None });
    assert_eq!(stopped.request(&write).unwrap(), Reply::Written(WriteResult::Rejected));

    // It must not affect its successor's lock, neither by a renewal nor by a release.
    assert_eq!(stopped.request(&Command::Release).unwrap(), Reply::Released);
    stopped.finish().unwrap();
    let status = Reply::Status { valid: true, fence: Some(fence) };
    assert_eq!(next.request(&Command::Report).unwrap(), status);
    assert_eq!(next.request(&write).unwrap(), Reply::Written(WriteResult::Accepted));
    next.finish().unwrap();
}

#[test]
fn a_holder_that_was_stopped_past_its_ttl_detects_the_loss_and_its_write_is_rejected() {
    stop_past_ttl(Renewal::Disabled);
}

#[test]
fn a_renewing_holder_that_was_stopped_past_its_ttl_detects_the_loss_too() {
    stop_past_ttl(Renewal::Automatic);
}
