//! The `prune` subcommand.

use std::time::{Duration, SystemTime};

use syncguard_testkit::server::RedisServer;

use crate::sandbox::{Sandbox, assert_code, program, stdout};

#[tokio::test]
async fn counters_that_follow_the_time_and_are_old_are_deleted_and_others_stay() {
    let server = RedisServer::builder().setting("appendonly", "yes").start().await.unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let age = |days: u64| (now - Duration::from_secs(days * 24 * 3_600)).as_millis().to_string();
    for (key, counter) in [("old", age(31)), ("young", age(29)), ("from-one", "7".to_owned())] {
        let name = format!("syncguard:fence:syncguard:{key}");
        server.command(&["SET", &name, &counter]).await.unwrap();
    }
    let run = ["run", "--key", "new", "--seed-new-counters", "--store", &server.url()];
    let run = program().args(run).args(["--", "sh", "-c", "echo $SYNCGUARD_FENCE"]).output();
    let run = run.unwrap();
    assert_code(&run, 0);
    assert!(stdout(&run).parse::<u128>().unwrap() >= now.as_millis());
    let prune = ["prune", "--counters-unused-for", "30d", "--store", &server.url()];
    for answer in ["1 fence counters deleted", "0 fence counters deleted"] {
        let output = program().args(prune).output().unwrap();
        assert_code(&output, 0);
        assert_eq!(stdout(&output), answer);
    }
    let left = server.command(&["KEYS", "syncguard:fence:*"]).await.unwrap();
    assert!(!left.contains(":old") && left.lines().count() == 3, "{left}");
}

#[test]
fn the_default_store_can_be_pruned() {
    let sandbox = Sandbox::new();
    let mut prune = program();
    prune.env("XDG_STATE_HOME", sandbox.path("state")).args(["prune", "--counters-unused-for"]);
    let output = prune.arg("30d").output().unwrap();
    assert_code(&output, 0);
    assert_eq!(stdout(&output), "0 fence counters deleted");
}
