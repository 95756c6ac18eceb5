//! Mutual exclusion of commands.

use std::{
    fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::sandbox::{
    Running, Sandbox, assert_code, only_line, program, stdout, wait_past_expiry, wait_until,
};

/// Reads a number, sleeps, and writes the next one: this overwrites a concurrent increment.
const INCREMENT: &str = "n=$(cat counter); sleep 0.01; echo $((n + 1)) > counter";

#[test]
fn a_second_program_that_does_not_wait_reports_the_holder() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&["--owner", "ci-7", "--ttl", "1m"]);
    let output = sandbox.run(&["--no-wait"], "touch ran").output().unwrap();
    assert_code(&output, 75);
    let line = only_line(&output);
    assert!(line.contains("held by \"ci-7\" under fence 000000000000001 for another 5"), "{line}");
    assert!(!sandbox.path("ran").exists());
    assert_code(&holder.finish(), 0);
}

#[test]
fn a_second_program_that_waits_acquires_the_lock_when_the_first_releases_it() {
    let sandbox = Sandbox::new();
    let script = "read line; echo first >> order";
    let first = Running::start(&mut sandbox.run(&[], &format!("echo held; {script}")));
    let mut first = first;
    assert_eq!(first.read_line(), "held");
    let script = "echo second >> order; echo $SYNCGUARD_FENCE";
    let second = Running::start(&mut sandbox.run(&["--wait", "60s"], script));
    second.wait_for_store(&sandbox.store());
    assert_code(&first.finish(), 0);
    let output = second.wait();
    assert_code(&output, 0);
    assert_eq!(stdout(&output), "000000000000002");
    assert_eq!(fs::read_to_string(sandbox.path("order")).unwrap(), "first\nsecond\n");
}

#[test]
fn readers_run_at_the_same_time_and_keep_a_writer_out() {
    let sandbox = Sandbox::new();
    let readers = [(); 2].map(|()| sandbox.hold(&["--shared"]));
    let writer = sandbox.run(&["--no-wait"], "touch ran").output().unwrap();
    assert_code(&writer, 75);
    assert!(only_line(&writer).contains("held by 2 in shared mode under fence"), "{writer:?}");
    for reader in readers {
        assert_code(&reader.finish(), 0);
    }
    let writer = sandbox.hold(&[]);
    assert_code(&sandbox.run(&["--shared", "--no-wait"], "touch ran").output().unwrap(), 75);
    assert!(!sandbox.path("ran").exists());
    assert_code(&writer.finish(), 0);
}

#[test]
fn as_many_commands_run_at_the_same_time_as_there_are_permits() {
    let sandbox = Sandbox::new();
    let [one, other] = [(); 2].map(|()| sandbox.hold(&["--permits", "2"]));
    let third = || sandbox.run(&["--permits", "2", "--no-wait"], "true").output().unwrap();
    assert_code(&third(), 75);
    let mistaken = sandbox.run(&["--permits", "3"], "true").output().unwrap();
    assert_code(&mistaken, 64);
    let line = only_line(&mistaken);
    assert!(line.contains("with 3 permits") && line.contains("with 2 permits"), "{line}");
    assert_code(&one.finish(), 0);
    assert_code(&third(), 0);
    assert_code(&other.finish(), 0);
}

#[test]
fn several_keys_are_held_all_or_none_and_passed_to_the_command() {
    let sandbox = Sandbox::new();
    let both = ["--key", "b", "--key", "a", "--no-wait"];
    let start = |keys: &[&str], script: &str| {
        let mut program = program();
        program.env("SYNCGUARD_STORE", format!("sqlite:{}", sandbox.store().display()));
        program.current_dir(sandbox.path(""));
        program.arg("run").args(keys).args(["--", "sh", "-c", script]);
        program
    };
    let with = |keys: &[&str], script: &str| start(keys, script).output().unwrap();
    let variables = "echo $SYNCGUARD_KEYS $SYNCGUARD_KEY_1 $SYNCGUARD_FENCE_1 $SYNCGUARD_KEY_2 \
        $SYNCGUARD_FENCE_2 [$SYNCGUARD_KEY]";
    let output = with(&both, variables);
    assert_code(&output, 0);
    assert_eq!(stdout(&output), "2 a 000000000000001 b 000000000000001 []");

    let inner = "syncguard run --key b --no-wait -- true; echo $?";
    let inner = inner.replace("syncguard", env!("CARGO_BIN_EXE_syncguard"));
    let output = with(&both, &inner);
    assert_eq!(stdout(&output), "75", "{output:?}");

    let mut other = Running::start(&mut start(&["--key", "b"], "echo held; read line; exit 0"));
    assert_eq!(other.read_line(), "held");
    assert_code(&with(&both, "touch ran"), 75);
    assert!(!sandbox.path("ran").exists());
    assert_code(&with(&["--key", "a", "--no-wait"], "true"), 0);
    assert_code(&other.finish(), 0);
    assert_code(&with(&["--key", "a", "--key", "b", "--shared"], "touch ran"), 64);
}

#[test]
fn a_wait_lasts_as_long_as_requested() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&[]);
    let start = Instant::now();
    let output = sandbox.run(&["--wait", "700ms"], "true").output().unwrap();
    let waited = start.elapsed();
    assert_code(&output, 75);
    assert!(waited >= Duration::from_millis(700), "{waited:?}");
    assert!(waited < Duration::from_secs(3), "{waited:?}");
    assert_code(&holder.finish(), 0);
}

#[tokio::test]
async fn a_command_that_runs_longer_than_the_ttl_keeps_the_lock() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&["--ttl", "3s"]);
    wait_past_expiry(&sandbox.locks().await, Duration::from_secs(3)).await;
    assert_code(&sandbox.run(&["--no-wait"], "true").output().unwrap(), 75);
    assert_code(&holder.finish(), 0);
}

#[test]
fn no_increment_by_eight_concurrent_programs_is_lost() {
    let sandbox = Sandbox::new();
    let count = increment_concurrently(&sandbox, || sandbox.run(&["--wait", "60s"], INCREMENT));
    assert_eq!(count, 200);
}

/// Proves that the test above would fail without the lock.
#[test]
fn increments_without_the_lock_are_lost() {
    let sandbox = Sandbox::new();
    let count = increment_concurrently(&sandbox, || {
        let mut command = Command::new("sh");
        command.current_dir(sandbox.path("")).args(["-c", INCREMENT]);
        command
    });
    assert!(count < 200, "{count}");
}

/// Counts to 200 with 8 concurrent programs.
fn increment_concurrently(sandbox: &Sandbox, increment: impl Fn() -> Command + Sync) -> u32 {
    let counter = sandbox.path("counter");
    fs::write(&counter, "0\n").unwrap();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..25 {
                    assert_code(&increment().output().unwrap(), 0);
                }
            });
        }
    });
    let mut count = None;
    wait_until("the counter can be read", || {
        count = fs::read_to_string(&counter).unwrap().trim().parse().ok();
        count.is_some()
    });
    count.unwrap()
}
