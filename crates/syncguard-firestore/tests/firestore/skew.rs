//! Clocks that differ.

use std::{
    env,
    io::{Write, stdout},
    process::Stdio,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use firestore_emulator::{ClockOffset, Emulator, Rpc};
use syncguard_core::{
    BootClock, Clock, ErrorKind, LockManager, ReleaseOutcome, Renew, UnsafeSettings,
    backend::{AcquireOutcome, ExtendOutcome, LockBackend, Mode, NotHeld, Severity},
};
use syncguard_firestore::{FirestoreBackend, FirestoreConfig};
use syncguard_testkit::{
    clock::{ClockShim, Jump},
    history::{Event, Incarnation, Journal, Record},
    operations::{
        LONG, ask, error_of, eventually, extended, granted, is_locked, key, lock_of, released, ttl,
    },
};
use tokio::process::Command;

use crate::{PROJECT, config, connect, start};

const JOURNAL: &str = "SYNCGUARD_TEST_JOURNAL";
const PROCESS: &str = "SYNCGUARD_TEST_PROCESS";
const WALL_OF_PARENT: &str = "SYNCGUARD_TEST_WALL";

/// How often each process acquires the lock.
const HOLDS: u32 = 40;

const TTL: Duration = Duration::from_secs(1);

/// Returns the difference between the wall clock and the boot clock, in milliseconds. It is the
/// same in processes whose wall clocks agree.
fn wall_minus_boot() -> i128 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    wall as i128 - BootClock.now().since_boot().as_millis() as i128
}

/// The report of a process with its own clock.
#[derive(Debug)]
struct Report {
    skew_ms: i128,
    finding: String,
}

/// Starts this program again with another clock. It finds the server through the environment.
async fn run_with_clock(
    emulator: &Emulator,
    journal: &Journal,
    process: u32,
    (by, jump): (Duration, Jump),
) -> Report {
    let clock = ClockShim::build().await.unwrap();
    clock.step(by, jump).unwrap();
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["skew::contend_on_a_clock_of_its_own", "--exact", "--ignored", "--nocapture"])
        .envs(clock.env())
        .env("FIRESTORE_EMULATOR_HOST", emulator.address().to_string())
        .env(JOURNAL, journal.path())
        .env(PROCESS, process.to_string())
        .env(WALL_OF_PARENT, wall_minus_boot().to_string())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = command.output().await.unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}\n{errors}");
    let value_of = |name: &str| {
        let line = printed.lines().find_map(|line| line.split_once(name)).map(|(_, rest)| rest);
        line.unwrap_or_else(|| panic!("{name} is not in {printed}")).to_owned()
    };
    Report { skew_ms: value_of("apart: ").parse().unwrap(), finding: value_of("finding: ") }
}

/// Acquires the lock repeatedly, and sometimes holds it for longer than its ttl.
#[test]
#[ignore = "other tests start it, in a process with a clock of its own"]
fn contend_on_a_clock_of_its_own() {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let variable = |name: &str| env::var(name).unwrap();
        let skew = wall_minus_boot() - variable(WALL_OF_PARENT).parse::<i128>().unwrap();
        writeln!(stdout(), "\napart: {skew}").unwrap();
        let journal = Journal::open(variable(JOURNAL)).unwrap();
        let process = Incarnation(variable(PROCESS).parse().unwrap());
        let backend = FirestoreBackend::connect(FirestoreConfig::new(PROJECT)).unwrap();
        let locks = LockManager::new(backend.clone());
        for hold in 0..HOLDS {
            let requested = BootClock.now();
            let lock = locks.lock("job").ttl(TTL).renew(Renew::Auto).wait(LONG);
            let guard = lock.acquire().await.unwrap();
            let (at, fence) = (BootClock.now(), guard.fence().unwrap());
            let until = at + guard.remaining();
            let (key, mode) = (key("job"), Mode::Exclusive);
            let entered = Event::Entered { key: key.clone(), fence, mode, requested, until };
            journal.write(&Record { process, at, event: entered }).unwrap();
            let long = hold % 20 == 7;
            tokio::time::sleep(if long { TTL * 3 / 2 } else { TTL / 200 }).await;
            let at = BootClock.now();
            assert!(guard.is_valid(), "the lease was lost");
            let left = Event::Left { key, fence };
            journal.write(&Record { process, at, event: left }).unwrap();
            assert_eq!(guard.release().await.unwrap(), ReleaseOutcome::Released);
        }
        let findings = backend.check().await.unwrap();
        let finding = findings.first().map(ToString::to_string).unwrap_or_default();
        writeln!(stdout(), "\nfinding: {finding}").unwrap();
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_whose_wall_clocks_differ_exclude_each_other_and_lose_no_lease() {
    for by in [Duration::from_millis(400), Duration::from_secs(90)] {
        let emulator = start().await;
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(directory.path().join("journal")).unwrap();
        let (ahead, behind) = tokio::join!(
            run_with_clock(&emulator, &journal, 1, (by, Jump::Forward)),
            run_with_clock(&emulator, &journal, 2, (by, Jump::Back)),
        );
        let by = by.as_millis() as i128;
        for (report, expected, side) in [(&ahead, by, "ahead"), (&behind, -by, "behind")] {
            assert!((report.skew_ms - expected).abs() < 50, "the clock is apart: {report:?}");
            assert!(report.finding.contains(side), "{report:?}");
        }
        let history = journal.read().unwrap();
        assert_eq!(history.entries().len(), 2 * HOLDS as usize);
        assert_eq!(history.flaws(), []);
    }
}

async fn start_with_offset(offset: ClockOffset) -> Emulator {
    Emulator::builder().clock_offset(offset).start().await.unwrap()
}

#[tokio::test]
async fn the_servers_clock_decides_even_if_the_local_clock_differs() {
    let (little, much) = (Duration::from_millis(400), Duration::from_secs(90));
    for (offset, side) in [
        (ClockOffset::Ahead(little), "behind"),
        (ClockOffset::Behind(little), "ahead"),
        (ClockOffset::Ahead(much), "behind"),
        (ClockOffset::Behind(much), "ahead"),
    ] {
        let emulator = start_with_offset(offset).await;
        let (mine, theirs) = (connect(&emulator), connect(&emulator));
        let request = ask("job", Duration::from_millis(500));
        granted(&mine, &request).await;
        let outcome = theirs.acquire(&ask("job", LONG)).await.unwrap();
        assert!(matches!(outcome, AcquireOutcome::Contended { .. }), "{offset:?}");
        assert!(extended(&mine, &request).await);
        let shorter = mine.extend(&lock_of(&request), ttl(Duration::from_millis(1))).await;
        assert!(matches!(shorter.unwrap(), ExtendOutcome::Extended { .. }));
        eventually("the grant is over", async || !is_locked(&theirs, "job").await).await;
        let next = ask("job", LONG);
        granted(&theirs, &next).await;
        assert!(released(&theirs, &next).await);
        let findings = mine.check().await.unwrap();
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].severity, Severity::Warning);
        assert!(findings[0].setting.contains(side), "{offset:?}: {findings:?}");
    }
}

#[tokio::test]
async fn a_skew_is_refused_if_unsafe_settings_are_refused() {
    let emulator = start_with_offset(ClockOffset::Ahead(Duration::from_secs(1))).await;
    let strict = |emulator| config(emulator).unsafe_settings(UnsafeSettings::Refuse);
    let backend = FirestoreBackend::connect(strict(&emulator)).unwrap();
    let error = error_of(backend.acquire(&ask("job", LONG)).await, ErrorKind::Unsupported);
    assert!(!error.may_have_applied() && error.to_string().contains("behind"), "{error}");
    assert!(!is_locked(&backend, "job").await);
    let emulator = start().await;
    granted(&FirestoreBackend::connect(strict(&emulator)).unwrap(), &ask("job", LONG)).await;
}

#[tokio::test]
async fn an_extend_after_the_servers_clock_was_set_counts_from_the_new_time() {
    let emulator = start().await;
    let backend = connect(&emulator);
    let request = ask("job", LONG);
    let grant = granted(&backend, &request).await;
    emulator.set_clock_offset(ClockOffset::Ahead(LONG / 2));
    let before = emulator.calls();
    let outcome = backend.extend(&lock_of(&request), ttl(LONG)).await.unwrap();
    let ExtendOutcome::Extended { expires_at } = outcome else { panic!("{outcome:?}") };
    assert!(expires_at.since(grant.expires_at) >= LONG / 2, "{expires_at} {grant:?}");
    let commits = (emulator.calls() - before).of(Rpc::Commit);
    assert_eq!(commits, 2, "the first one took the clock for where it had been");
    assert_eq!((emulator.calls() - before).total(), 2, "its commit told where it stands");
    let record = backend.lookup(&request.lock_id.into()).await.unwrap().unwrap();
    assert_eq!(record.expires_at, expires_at);
    assert!(record.remaining() > LONG / 2);
}

#[tokio::test]
async fn a_grant_that_expired_by_a_jump_of_the_servers_clock_is_not_extended() {
    let emulator = start().await;
    let (mine, theirs) = (connect(&emulator), connect(&emulator));
    let request = ask("job", LONG);
    granted(&mine, &request).await;
    emulator.set_clock_offset(ClockOffset::Ahead(2 * LONG));
    let outcome = mine.extend(&lock_of(&request), ttl(LONG)).await.unwrap();
    assert_eq!(outcome, ExtendOutcome::NotHeld(NotHeld::Expired));
    assert!(!is_locked(&theirs, "job").await);
    assert_eq!(granted(&theirs, &ask("job", LONG)).await.fence.number(), 2);
}
