//! The connection that listens, which a client without another one also uses for statements.

use std::pin::pin;

use syncguard_core::backend::{LockBackend, Mode};
use syncguard_postgres::PostgresBackend;
use syncguard_testkit::{
    operations::{LONG, ask, eventually, granted, key, released},
    server::PostgresServer,
};
use tokio::time::timeout;

use crate::{
    Foreign,
    wakeups::{Scene, WAKE_TIMEOUT, is_pending, watched},
};

/// Returns the process of the server that my only connection is connected to.
async fn only_session(scene: &Scene) -> i64 {
    let sql = format!(
        "SELECT sum(pid) FROM pg_stat_activity WHERE application_name = '{}' HAVING count(*) = 1",
        scene.names.locks
    );
    Foreign::open(&scene.server.url()).await.number(&sql).await
}

#[tokio::test]
async fn a_client_that_waits_keeps_to_the_connection_that_it_has() {
    let scene = Scene::set().await;
    let (text, session) = (scene.text("job"), only_session(&scene).await);
    watched(&scene.mine, &text).await;
    let (job, request) = (key(&text), ask(&text, LONG));
    granted(&scene.theirs, &request).await;
    let mut notification = pin!(scene.mine.released(&job));
    assert!(is_pending(&mut notification).await);
    assert!(scene.mine.lookup(&job.clone().into()).await.unwrap().is_some());
    assert!(released(&scene.theirs, &request).await);
    timeout(WAKE_TIMEOUT, notification).await.unwrap();
    let request = ask(&text, LONG);
    granted(&scene.mine, &request).await;
    assert!(released(&scene.mine, &request).await);
    assert_eq!(only_session(&scene).await, session);
    eventually("the key is left", async || scene.locks().await == 0).await;
    granted(&scene.mine, &request).await;
    assert_eq!(only_session(&scene).await, session, "it went back to the pool");
}

/// The advisory lock of the waiters does not conflict with one that the same session takes.
#[tokio::test]
async fn whatever_frees_a_key_over_the_connection_that_listens_notifies_the_own_waiters() {
    let scene = Scene::set().await;
    let text = scene.text("job");
    let (job, session) = (key(&text), only_session(&scene).await);
    watched(&scene.mine, &text).await;
    for (way, mode) in [
        ("released", Mode::Exclusive),
        ("released", Mode::Shared { permits: None }),
        ("abandoned", Mode::Exclusive),
        ("abandoned", Mode::Shared { permits: None }),
        ("forced", Mode::Exclusive),
    ] {
        let request = ask(&text, LONG).with_mode(mode);
        granted(&scene.mine, &request).await;
        let mut notification = pin!(scene.mine.released(&job));
        assert!(is_pending(&mut notification).await);
        match way {
            "released" => assert!(released(&scene.mine, &request).await),
            "abandoned" => scene.mine.abandon(request.lock_id, &job).await.unwrap(),
            _ => assert!(scene.mine.force_release(&job).await.unwrap().is_some()),
        }
        let notified = timeout(WAKE_TIMEOUT, notification).await;
        assert!(notified.is_ok(), "{way}, {mode:?}");
    }
    assert_eq!(only_session(&scene).await, session);
}

/// Keeps all statements of my client waiting until the transaction ends.
async fn block(scene: &Scene) -> Foreign {
    let mut foreign = Foreign::open(&scene.server.url()).await;
    foreign.run(&format!("BEGIN; LOCK TABLE {}", scene.names.locks)).await;
    foreign
}

#[tokio::test]
async fn statements_that_overlap_get_a_connection_of_their_own_and_no_notification_is_lost() {
    let scene = Scene::set().await;
    let text = scene.text("job");
    let job = key(&text);
    watched(&scene.mine, &text).await;
    let before = scene.proxy.counts().connections;
    let mut blocking = block(&scene).await;
    let lookups: Vec<_> = (0..2)
        .map(|_| {
            let (mine, job) = (scene.mine.clone(), job.clone());
            tokio::spawn(async move { mine.lookup(&job.into()).await })
        })
        .collect();
    let connections = async || scene.proxy.counts().connections;
    eventually("the second has its own", async || connections().await == before + 1).await;
    let mut notification = pin!(scene.mine.released(&job));
    assert!(is_pending(&mut notification).await);
    let hash = format!("SELECT hashtext('{text}')::text");
    let mut foreign = Foreign::open(&scene.server.url()).await;
    let hash = foreign.text(&hash).await;
    foreign.run(&format!("NOTIFY {}_released, '{hash}'", scene.names.locks)).await;
    blocking.run("COMMIT").await;
    for lookup in lookups {
        assert!(lookup.await.unwrap().unwrap().is_none());
    }
    timeout(WAKE_TIMEOUT, notification).await.unwrap();
}

#[tokio::test]
async fn if_the_connection_is_lost_during_a_statement_another_one_listens() {
    let scene = Scene::set().await;
    let text = scene.text("job");
    let (job, session) = (key(&text), only_session(&scene).await);
    watched(&scene.mine, &text).await;
    let mut blocking = block(&scene).await;
    let (mine, asked) = (scene.mine.clone(), job.clone());
    let lookup = tokio::spawn(async move { mine.lookup(&asked.into()).await });
    let waits = format!("SELECT count(*) FROM pg_locks WHERE pid = {session} AND NOT granted");
    let mut foreign = Foreign::open(&scene.server.url()).await;
    eventually("it waits", async || foreign.number(&waits).await > 0).await;
    let mut notification = pin!(scene.mine.released(&job));
    assert!(is_pending(&mut notification).await);
    foreign.run(&format!("SELECT pg_terminate_backend({session})")).await;
    blocking.run("COMMIT").await;
    assert!(lookup.await.unwrap().unwrap().is_none(), "it was run again");
    timeout(WAKE_TIMEOUT, notification).await.unwrap();
    assert!(scene.mine.is_subscribed(&job));
}

#[test]
fn a_client_can_be_dropped_outside_of_its_runtime() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(PostgresServer::start()).unwrap();
    let connect = |listens| {
        runtime.block_on(async {
            let backend = PostgresBackend::connect(crate::config(&server.url())).await.unwrap();
            if listens {
                watched(&backend, "job").await;
            }
            backend
        })
    };
    for listens in [false, true] {
        drop(connect(listens));
        let mut foreign = runtime.block_on(Foreign::open(&server.url()));
        let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'syncguard'";
        runtime.block_on(eventually("it is closed", async || foreign.number(sessions).await == 0));
    }
    let left = [false, true].map(connect);
    drop(runtime);
    drop(left);
}
