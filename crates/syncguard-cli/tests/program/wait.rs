//! The `wait` subcommand.

use crate::sandbox::{Running, Sandbox, assert_code, lookup, only_line};

#[tokio::test]
async fn a_free_lock_is_not_waited_for_nor_taken() {
    let sandbox = Sandbox::new();
    let output = sandbox.program("wait").output().unwrap();
    assert_code(&output, 0);
    assert!(output.stdout.is_empty() && output.stderr.is_empty());
    let locks = sandbox.locks().await;
    assert!(lookup(&locks).await.is_none());
    // No fence was used either.
    assert_eq!(
        locks.lock(crate::sandbox::KEY).acquire().await.unwrap().fence().unwrap().number(),
        1
    );
}

#[test]
fn a_held_lock_is_waited_for_until_it_is_free() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&[]);
    let waiter = Running::start(&mut sandbox.program("wait"));
    waiter.wait_for_store(&sandbox.store());
    assert_code(&holder.finish(), 0);
    assert_code(&waiter.wait(), 0);
}

#[test]
fn a_wait_that_is_too_long_is_over() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&[]);
    let output = sandbox.program("wait").args(["--timeout", "300ms"]).output().unwrap();
    assert_code(&output, 75);
    assert!(only_line(&output).contains("timed out waiting for lock \"nightly-report\" ("));
    assert_code(&holder.finish(), 0);
}
