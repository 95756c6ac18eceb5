//! The line of the waiters of all clients.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use sqlx::postgres::PgListener;
use syncguard_core::{LockGuard, LockManager, Retry, backend::Mode};
use syncguard_postgres::PostgresBackend;
use syncguard_testkit::{
    operations::{LONG, ask, eventually, granted, released},
    proxy::{Flow, Occurrences, Proxy},
    server::PostgresServer,
};
use tokio::task::JoinHandle;

use crate::{Foreign, Names, shared};

/// The limit on waiting for a turn. Without one, a waiter would wait forever.
const TURN_TIMEOUT: Duration = Duration::from_secs(20);

/// A key that someone holds, and those that wait for it, each with a client of its own.
struct Scene {
    server: Arc<PostgresServer>,
    names: Names,
    text: String,
    mine: PostgresBackend,
    line: Foreign,
}

type Waiting = JoinHandle<LockGuard>;

impl Scene {
    async fn set() -> Self {
        let (server, names) = (shared().await, Names::fresh());
        let mine = names.connect(&server.url()).await;
        let line = Foreign::open(&server.url()).await;
        let text = format!("job of {}", names.locks);
        Self { server, names, text, mine, line }
    }

    /// Counts those in line.
    async fn in_line(&mut self) -> i64 {
        self.line.number(&format!("SELECT count(*) FROM {}_line", self.names.locks)).await
    }

    /// Makes a new client wait for the key until it is in line.
    async fn wait(&mut self, mode: Mode) -> Waiting {
        let client = self.names.connect(&self.server.url()).await;
        self.wait_by(client, mode).await
    }

    async fn wait_by(&mut self, client: PostgresBackend, mode: Mode) -> Waiting {
        let before = self.in_line().await;
        let (locks, text) = (LockManager::new(client), self.text.clone());
        let waiting = tokio::spawn(async move {
            // The retry schedule does not help.
            let lock = match mode {
                Mode::Exclusive => locks.lock(&text),
                Mode::Shared { permits: None } => locks.lock(&text).shared(),
                Mode::Shared { permits: Some(n) } => locks.semaphore(&text, n.get()),
            };
            lock.ttl(LONG).wait(LONG).retry(Retry::fixed(LONG)).acquire().await.unwrap()
        });
        eventually("it is in line", async || self.in_line().await > before).await;
        waiting
    }

    /// Listens to the channel as another client would.
    async fn listener(&self) -> PgListener {
        let mut listener = PgListener::connect(&self.server.url()).await.unwrap();
        listener.listen(&format!("{}_released", self.names.locks)).await.unwrap();
        listener
    }
}

async fn turn(waiting: Waiting) -> LockGuard {
    tokio::time::timeout(TURN_TIMEOUT, waiting).await.unwrap().unwrap()
}

/// Returns those whose turn it is by the next notification, and their substitutes.
async fn notified(listener: &mut PgListener) -> [Vec<String>; 2] {
    let notification = tokio::time::timeout(TURN_TIMEOUT, listener.recv()).await.unwrap().unwrap();
    let mut parts = notification.payload().split(' ').skip(1);
    [(); 2].map(|()| {
        let names = parts.next().unwrap_or_default().split(',');
        names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
    })
}

/// Returns how many they are.
async fn number_notified(listener: &mut PgListener) -> [usize; 2] {
    notified(listener).await.map(|names| names.len())
}

#[tokio::test]
async fn clients_are_granted_the_key_in_the_order_in_which_they_entered_the_line() {
    let mut scene = Scene::set().await;
    let held = ask(&scene.text, LONG);
    granted(&scene.mine, &held).await;
    let mut waiting = Vec::new();
    for _ in 0..4 {
        waiting.push(scene.wait(Mode::Exclusive).await);
    }
    assert!(released(&scene.mine, &held).await);
    for (number, waiting) in (2..).zip(waiting) {
        let guard = turn(waiting).await;
        assert_eq!(guard.fence().unwrap().number(), number);
        guard.release().await.unwrap();
    }
    assert_eq!(scene.in_line().await, 0);
}

#[tokio::test]
async fn a_release_wakes_one_client_and_the_others_send_nothing() {
    let mut scene = Scene::set().await;
    let held = ask(&scene.text, LONG);
    granted(&scene.mine, &held).await;
    let first = scene.wait(Mode::Exclusive).await;
    let proxy = Proxy::start(scene.server.address()).await.unwrap();
    // Behind as many as there are substitutes.
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(scene.wait(Mode::Exclusive).await);
    }
    let client = scene.names.connect(&scene.server.url_through(proxy.address())).await;
    let last = scene.wait_by(client, Mode::Exclusive).await;
    let sent = proxy.tally(Flow::Requests, || Occurrences::of(crate::network::SYNC));
    let mut listener = scene.listener().await;
    assert!(released(&scene.mine, &held).await);
    assert_eq!(number_notified(&mut listener).await, [1, 3]);
    let guard = turn(first).await;
    assert_eq!(sent.total(), 0, "it is the turn of another one");
    guard.release().await.unwrap();
    for waiting in others.into_iter().chain([last]) {
        turn(waiting).await.release().await.unwrap();
    }
}

#[tokio::test]
async fn a_turn_of_a_client_that_died_is_taken_by_a_substitute() {
    let mut scene = Scene::set().await;
    let held = ask(&scene.text, LONG);
    granted(&scene.mine, &held).await;
    let proxy = Proxy::start(scene.server.address()).await.unwrap();
    let client = scene.names.connect(&scene.server.url_through(proxy.address())).await;
    let dead = scene.wait_by(client, Mode::Exclusive).await;
    let alive = scene.wait(Mode::Exclusive).await;
    proxy.black_hole(Flow::Requests);
    assert!(released(&scene.mine, &held).await);
    let guard = turn(alive).await;
    assert_eq!(guard.fence().unwrap().number(), 2);
    eventually("it has left the line", async || scene.in_line().await == 0).await;
    dead.abort();
    guard.release().await.unwrap();
}

#[tokio::test]
async fn a_turn_that_a_client_does_not_want_any_more_is_passed_on() {
    let mut scene = Scene::set().await;
    let held = ask(&scene.text, LONG);
    granted(&scene.mine, &held).await;
    let client = scene.names.connect(&scene.server.url()).await;
    let gone = scene.wait_by(client.clone(), Mode::Exclusive).await;
    // The next one cannot take its turn as a substitute.
    let proxy = Proxy::start(scene.server.address()).await.unwrap();
    let silent = scene.names.connect(&scene.server.url_through(proxy.address())).await;
    let next = scene.wait_by(silent, Mode::Exclusive).await;
    proxy.black_hole(Flow::Requests);
    let mut listener = scene.listener().await;
    gone.abort();
    let _ = gone.await;
    assert!(released(&scene.mine, &held).await);
    assert_eq!(number_notified(&mut listener).await, [1, 1]);
    assert_eq!(number_notified(&mut listener).await, [1, 0], "the turn is passed on");
    next.abort();
}

#[tokio::test]
async fn a_waiter_that_gives_up_leaves_the_line() {
    let mut scene = Scene::set().await;
    let held = ask(&scene.text, LONG);
    granted(&scene.mine, &held).await;
    let client = scene.names.connect(&scene.server.url()).await;
    let gone = scene.wait_by(client.clone(), Mode::Exclusive).await;
    gone.abort();
    eventually("it has left", async || scene.in_line().await == 0).await;
}

#[tokio::test]
async fn readers_enter_together_and_a_writer_that_has_announced_itself_before_them() {
    let mut scene = Scene::set().await;
    let held = ask(&scene.text, LONG);
    granted(&scene.mine, &held).await;
    let readers = [scene.wait(Mode::SHARED).await, scene.wait(Mode::SHARED).await];
    let writer = scene.wait(Mode::Exclusive).await;
    let mut listener = scene.listener().await;
    assert!(released(&scene.mine, &held).await);
    assert_eq!(number_notified(&mut listener).await, [2, 1], "the writer is their substitute");
    let [one, other] = readers;
    let guards = [turn(one).await, turn(other).await];
    let announced =
        format!("SELECT count(*) FROM {} WHERE announced_by IS NOT NULL", scene.names.locks);
    eventually("it is announced", async || scene.line.number(&announced).await == 1).await;
    let reader = scene.wait(Mode::SHARED).await;
    let first = format!("UPDATE {}_line SET place = 0 WHERE room > 1", scene.names.locks);
    scene.line.run(&first).await;
    let writers = format!("SELECT waiter FROM {}_line WHERE room = 1", scene.names.locks);
    let the_writer = scene.line.text(&writers).await;
    for guard in guards {
        guard.release().await.unwrap();
    }
    let [first, substitutes] = notified(&mut listener).await;
    assert_eq!((first, substitutes.len()), (vec![the_writer], 1), "the reader is its substitute");
    let guard = turn(writer).await;
    assert_eq!(guard.fence().unwrap().number(), 4);
    guard.release().await.unwrap();
    turn(reader).await.release().await.unwrap();
}

#[tokio::test]
async fn a_permit_that_becomes_free_wakes_one_client() {
    let mut scene = Scene::set().await;
    let mode = Mode::Shared { permits: NonZeroU32::new(2) };
    let held = [0, 1].map(|_| ask(&scene.text, LONG).with_mode(mode));
    for request in &held {
        granted(&scene.mine, request).await;
    }
    let (one, other) = (scene.wait(mode).await, scene.wait(mode).await);
    let mut listener = scene.listener().await;
    for (request, waiting) in held.iter().zip([one, other]) {
        assert!(released(&scene.mine, request).await);
        assert_eq!(number_notified(&mut listener).await[0], 1);
        drop(turn(waiting).await);
    }
}

/// What the line says is never decisive.
#[tokio::test]
async fn a_free_key_is_granted_to_a_client_that_is_not_in_line() {
    let mut scene = Scene::set().await;
    let sql = format!(
        "SELECT {}_enter('{}', rpad('someone', 22, '-'), NULL, 1, 60000)",
        scene.names.locks, scene.text
    );
    scene.line.number(&sql).await;
    let request = ask(&scene.text, LONG);
    granted(&scene.mine, &request).await;
    assert_eq!(scene.in_line().await, 1);
}

/// Entries of clients that died do not accumulate.
#[tokio::test]
async fn entering_the_line_removes_some_of_those_that_have_died() {
    let mut scene = Scene::set().await;
    let enter = format!("SELECT {}_enter", scene.names.locks);
    for client in 0..4 {
        scene
            .line
            .number(&format!("{enter}('key {client}', rpad('dead', 22, '-'), NULL, 1, 1000)"))
            .await;
    }
    assert_eq!(scene.in_line().await, 4);
    let dead = format!("UPDATE {}_line SET until_ms = 0", scene.names.locks);
    scene.line.run(&dead).await;
    scene.line.number(&format!("{enter}('key', rpad('alive', 22, '-'), NULL, 1, 60000)")).await;
    assert_eq!(scene.in_line().await, 1);
}

/// A role that could lock the rows of the line could delay the releases of others.
#[tokio::test]
async fn a_role_without_privileges_on_the_line_notifies_everyone() {
    let mut scene = Scene::set().await;
    let (locks, counters) = (&scene.names.locks, &scene.names.counters);
    let role = format!("role_{locks}");
    let grant = format!(
        "CREATE ROLE {role} LOGIN;
        GRANT SELECT, INSERT, UPDATE, DELETE ON {locks}, {counters} TO {role}"
    );
    scene.line.run(&grant).await;
    let url = scene.server.url().replace("postgres@", &format!("{role}@"));
    let holder = scene.names.connect(&url).await;
    let held = ask(&scene.text, LONG);
    granted(&holder, &held).await;
    let waiting = scene.wait(Mode::Exclusive).await;
    let mut listener = scene.listener().await;
    assert!(released(&holder, &held).await);
    assert_eq!(number_notified(&mut listener).await, [0, 0]);
    turn(waiting).await.release().await.unwrap();
    drop(holder);
    scene.line.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}
