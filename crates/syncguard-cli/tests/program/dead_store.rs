//! A store that stops answering blocks neither the program nor its caller.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use humantime::parse_duration;
use rustix::process::Signal;
use syncguard::{
    LockKey, LockManager, Ttl,
    backend::Capabilities,
    redis::{RedisBackend, RedisConfig},
};
use syncguard_testkit::{
    proxy::{Flow, Occurrences, Proxy},
    server::{PostgresServer, RedisServer},
};
use tokio::{task::spawn_blocking, time::sleep};

use crate::sandbox::{
    KEY, Running, assert_code, assert_signal, is_alive, only_line, program, wait_until,
};

async fn server() -> RedisServer {
    RedisServer::builder()
        .setting("appendonly", "yes")
        .setting("appendfsync", "always")
        .start()
        .await
        .unwrap()
}

fn run(url: &str, script: &str) -> Command {
    let mut program = program();
    program.env("SYNCGUARD_STORE", url).args(["run", "--key", KEY, "--", "sh", "-c", script]);
    program
}

#[tokio::test]
async fn the_program_exits_with_its_command_and_reports_how_long_the_key_stays_locked() {
    let server = server().await;
    let locks = LockManager::new(
        RedisBackend::connect(RedisConfig::from_url(&server.url()).unwrap()).await.unwrap(),
    );
    let key: LockKey = KEY.parse().unwrap();
    assert!(locks.lookup_raw(&key.clone().into()).await.unwrap().is_none());
    let requested = Instant::now();
    let mut running = Running::start(&mut run(&server.url(), "echo held; read line; exit 3"));
    assert_eq!(running.read_line(), "held");

    server.pause().unwrap();
    let key = key.into();
    let ended = spawn_blocking(move || running.finish());
    let output = tokio::select! {
        output = ended => output.unwrap(),
        // A request that is sent when the command exits.
        refused = locks.lookup_raw(&key) => panic!("{refused:?} came before the program's end"),
    };
    assert_code(&output, 3);
    let line = only_line(&output);
    let left = line.strip_prefix("syncguard: warning: the lock is left to its ttl, free in about ");
    let left =
        left.and_then(|left| left.split(": ").next()).and_then(|left| parse_duration(left).ok());
    // It was the whole ttl and grace at first, and has decreased by at most the time since.
    let whole = Ttl::default().as_duration() + Capabilities::GRACE;
    assert!(
        left.is_some_and(|left| left <= whole && left + requested.elapsed() >= whole),
        "{line}"
    );
    server.resume().unwrap();
}

#[tokio::test]
async fn a_signal_during_the_release_ends_the_program() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
        let server = server().await;
        let script = "echo $$; read line; exit 3";
        let mut running = Running::start(&mut run(&server.url(), script));
        let command = running.read_line();
        server.pause().unwrap();
        // When it is resumed, the program finds both: the exit of its command, and the signal.
        running.signal(Signal::STOP);
        running.close_input();
        wait_until("the command has ended", || !is_alive(&command));
        running.signal(signal);
        running.signal(Signal::CONT);
        assert_signal(&running.wait(), signal);
        server.resume().unwrap();
    }
}

#[tokio::test]
async fn a_signal_during_the_check_of_the_settings_ends_the_program() {
    let server = PostgresServer::start().await.unwrap();
    let proxy = Proxy::start(server.address()).await.unwrap();
    // Slow enough that the query is counted before its reply has passed.
    proxy.delay(Duration::from_millis(200));
    let queries = proxy.tally(Flow::Requests, || Occurrences::of("pg_stat_replication"));
    let url = server.url_through(proxy.address());
    let mut run = program();
    run.args(["run", "--key", KEY, "--wait", "forever", "--", "echo", "ran"]);
    let running = Running::start(run.env("SYNCGUARD_STORE", url));
    // The backend reads the settings while it connects, and the program does so again afterwards.
    while queries.total() < 2 {
        sleep(Duration::from_millis(5)).await;
    }
    // The reply is delayed for even longer. After it, the check would send its next message.
    proxy.delay(Duration::from_secs(2));
    let sent = proxy.counts().requests;
    running.signal(Signal::TERM);
    let output = spawn_blocking(move || running.wait()).await.unwrap();
    assert_signal(&output, Signal::TERM);
    assert_eq!(proxy.counts().requests, sent, "the check went on after the signal");
}
