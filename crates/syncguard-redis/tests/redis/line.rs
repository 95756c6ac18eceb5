//! The line of the waiters of all clients.

use std::{num::NonZeroU32, time::Duration};

use syncguard_core::{
    LockGuard, LockManager, Owner, Retry,
    backend::{AcquireRequest, ListRequest, LockBackend, Mode},
};
use syncguard_redis::RedisBackend;
use syncguard_testkit::{
    operations::{LONG, ask, eventually, granted, is_locked, released},
    proxy::{Flow, Occurrences, Proxy},
    server::{RedisCluster, RedisServer},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinHandle,
};

use crate::{connect, safe};

/// The limit on waiting for a turn. Without one, a waiter would wait forever.
const TURN_TIMEOUT: Duration = Duration::from_secs(20);

const LOCK: &str = "syncguard:job";
const LINE: &str = "syncguard:job\u{37e}line";
const MARK: &str = "syncguard:job\u{37e}waits";
const HOLDERS: &str = "syncguard:job\u{37e}shared";

/// The score of an entry in front of all others, whose client is alive or has not entered again for
/// 80 seconds.
const ENTER_FIRST: &str = "\
    local round = math.floor(redis.call('TIME')[1] / 20) - (ARGV[2] == 'dead' and 4 or 0) \
    redis.call('SET', KEYS[2], '') \
    return redis.call('ZADD', KEYS[1], (ARGV[3] - 1) * 32 + round % 32, ARGV[1])";

/// A key that someone holds, and those that wait for it, each with a client of its own.
struct Scene {
    server: RedisServer,
    mine: RedisBackend,
}

type Waiting = JoinHandle<LockGuard>;

impl Scene {
    async fn set() -> Self {
        let server = safe().setting("appendonly", "no").start().await.unwrap();
        let mine = connect(&server.url()).await;
        Self { server, mine }
    }

    async fn call(&self, words: &[&str]) -> String {
        self.server.command(words).await.unwrap()
    }

    /// Counts those in line.
    async fn in_line(&self) -> u32 {
        self.call(&["ZCARD", LINE]).await.parse().unwrap()
    }

    /// Puts another client in front of all others.
    async fn enter_first(&self, name: &str, state: &str, room: &str) {
        assert_eq!(
            self.call(&["EVAL", ENTER_FIRST, "2", LINE, MARK, name, state, room]).await,
            "1"
        );
    }

    /// Makes a new client wait for the key until it is in line.
    async fn wait(&self, mode: Mode) -> Waiting {
        self.wait_by(connect(&self.server.url()).await, mode).await
    }

    async fn wait_by(&self, client: RedisBackend, mode: Mode) -> Waiting {
        let before = self.in_line().await;
        let waiting = wait(client, mode);
        eventually("it is in line", async || self.in_line().await > before).await;
        waiting
    }

    /// Makes a new client wait whose requests the proxy can stop.
    async fn wait_through(&self, proxy: &Proxy) -> Waiting {
        let client = connect(&self.server.url_through(proxy.address())).await;
        self.wait_by(client, Mode::Exclusive).await
    }

    async fn proxy(&self) -> Proxy {
        Proxy::start(self.server.address()).await.unwrap()
    }
}

/// Requests the key for a client that notifies waiters of its release, as its label shows.
fn held() -> AcquireRequest {
    ask("job", LONG).with_owner(Some(Owner::new("holder").unwrap()))
}

fn wait(client: RedisBackend, mode: Mode) -> Waiting {
    wait_with(LockManager::new(client), mode)
}

fn wait_with(locks: LockManager, mode: Mode) -> Waiting {
    tokio::spawn(async move {
        let lock = match mode {
            Mode::Exclusive => locks.lock("job"),
            Mode::Shared { permits: None } => locks.lock("job").shared(),
            Mode::Shared { permits: Some(n) } => locks.semaphore("job", n.get()),
        };
        // The retry schedule does not help.
        lock.ttl(LONG).wait(LONG).retry(Retry::fixed(LONG)).acquire().await.unwrap()
    })
}

async fn turn(waiting: Waiting) -> LockGuard {
    tokio::time::timeout(TURN_TIMEOUT, waiting).await.unwrap().unwrap()
}

/// A connection that is subscribed to the releases of the key.
struct Listener {
    lines: Lines<BufReader<OwnedReadHalf>>,
    _requests: OwnedWriteHalf,
}

impl Listener {
    async fn start(scene: &Scene) -> Self {
        let stream = TcpStream::connect(scene.server.address()).await.unwrap();
        let (replies, mut requests) = stream.into_split();
        requests.write_all(format!("SUBSCRIBE {LOCK}:released\r\n").as_bytes()).await.unwrap();
        let mut listener = Self { lines: BufReader::new(replies).lines(), _requests: requests };
        // An array of three: the kind, the channel, and a number.
        listener.skip(6).await;
        listener
    }

    async fn skip(&mut self, lines: usize) {
        for _ in 0..lines {
            self.lines.next_line().await.unwrap().unwrap();
        }
    }

    /// Returns those whose turn it is by the next notification, and their substitutes.
    async fn next(&mut self) -> [Vec<String>; 2] {
        let next = async {
            // An array of three: the kind, the channel, and the text, each after its length.
            self.skip(6).await;
            self.lines.next_line().await.unwrap().unwrap()
        };
        let text = tokio::time::timeout(TURN_TIMEOUT, next).await.unwrap();
        let mut parts = text.split(' ');
        [(); 2].map(|()| {
            let names = parts.next().unwrap_or_default().split(',');
            names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
        })
    }

    /// Returns how many they are.
    async fn count(&mut self) -> [usize; 2] {
        self.next().await.map(|names| names.len())
    }
}

#[tokio::test]
async fn clients_are_granted_the_key_in_the_order_in_which_they_entered_the_line() {
    let scene = Scene::set().await;
    let held = held();
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
    let scene = Scene::set().await;
    let held = held();
    granted(&scene.mine, &held).await;
    let first = scene.wait(Mode::Exclusive).await;
    // Behind as many as there are substitutes.
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(scene.wait(Mode::Exclusive).await);
    }
    let proxy = scene.proxy().await;
    let client = connect(&scene.server.url_through(proxy.address())).await;
    let last = scene.wait_by(client.clone(), Mode::Exclusive).await;
    // Over the same connection: by now, it knows that it is in line.
    assert!(is_locked(&client, "job").await);
    let sent = proxy.tally(Flow::Requests, || Occurrences::of("EVALSHA"));
    let mut listener = Listener::start(&scene).await;
    assert!(released(&scene.mine, &held).await);
    assert_eq!(listener.count().await, [1, 3]);
    let guard = turn(first).await;
    assert_eq!(sent.total(), 0, "it is the turn of another one");
    guard.release().await.unwrap();
    assert_eq!(listener.count().await, [1, 3], "the next one");
    for waiting in others.into_iter().chain([last]) {
        turn(waiting).await.release().await.unwrap();
    }
}

/// The client of a waiter learns by the same request that it is refused and that it is in line.
#[tokio::test]
async fn a_waiter_sends_three_requests_until_its_turn() {
    let scene = Scene::set().await;
    let held = held();
    granted(&scene.mine, &held).await;
    let proxy = scene.proxy().await;
    let client = connect(&scene.server.url_through(proxy.address())).await;
    let sent = proxy.tally(Flow::Requests, || Occurrences::of("EVALSHA"));
    let waiting = scene.wait_by(client, Mode::Exclusive).await;
    assert_eq!(sent.total(), 3, "without a subscription, subscribed, and notified of that");
    assert!(released(&scene.mine, &held).await);
    let guard = turn(waiting).await;
    assert_eq!((sent.total(), scene.in_line().await), (4, 0));
    guard.release().await.unwrap();
}

#[tokio::test]
async fn a_turn_of_a_client_that_died_is_taken_by_a_substitute() {
    let scene = Scene::set().await;
    let held = held();
    granted(&scene.mine, &held).await;
    let proxy = scene.proxy().await;
    let dead = scene.wait_through(&proxy).await;
    let alive = scene.wait(Mode::Exclusive).await;
    proxy.black_hole(Flow::Requests);
    assert!(released(&scene.mine, &held).await);
    let guard = turn(alive).await;
    assert_eq!((guard.fence().unwrap().number(), scene.in_line().await), (2, 0));
    dead.abort();
    guard.release().await.unwrap();
}

#[tokio::test]
async fn a_client_that_has_not_entered_again_is_not_named() {
    let scene = Scene::set().await;
    let held = held();
    granted(&scene.mine, &held).await;
    let waiting = scene.wait(Mode::Exclusive).await;
    let mut listener = Listener::start(&scene).await;
    // More than are read at once.
    for number in 0..100 {
        scene.enter_first(&format!("dead {number}"), "dead", "1").await;
    }
    assert!(released(&scene.mine, &held).await);
    assert_eq!(listener.count().await, [1, 0]);
    assert_eq!(scene.in_line().await, 0);
    turn(waiting).await.release().await.unwrap();
}

#[tokio::test]
async fn a_turn_that_a_client_does_not_want_any_more_is_passed_on() {
    let scene = Scene::set().await;
    let held = held();
    granted(&scene.mine, &held).await;
    let client = connect(&scene.server.url()).await;
    let gone = scene.wait_by(client.clone(), Mode::Exclusive).await;
    // The next one cannot take its turn as a substitute.
    let proxy = scene.proxy().await;
    let next = scene.wait_through(&proxy).await;
    proxy.black_hole(Flow::Requests);
    let mut listener = Listener::start(&scene).await;
    gone.abort();
    let _ = gone.await;
    assert!(released(&scene.mine, &held).await);
    assert_eq!(listener.count().await, [1, 1]);
    assert_eq!(listener.count().await, [1, 0], "the turn is passed on");
    next.abort();
}

#[tokio::test]
async fn a_waiter_that_gives_up_leaves_the_line() {
    let scene = Scene::set().await;
    let held = held();
    granted(&scene.mine, &held).await;
    let client = connect(&scene.server.url()).await;
    let gone = scene.wait_by(client.clone(), Mode::Exclusive).await;
    gone.abort();
    eventually("it has left", async || scene.in_line().await == 0).await;
}

#[tokio::test]
async fn readers_enter_together_and_a_writer_that_has_announced_itself_before_them() {
    let scene = Scene::set().await;
    let held = held();
    granted(&scene.mine, &held).await;
    let readers = [scene.wait(Mode::SHARED).await, scene.wait(Mode::SHARED).await];
    let writer = scene.wait(Mode::Exclusive).await;
    let mut listener = Listener::start(&scene).await;
    assert!(released(&scene.mine, &held).await);
    assert_eq!(listener.count().await, [2, 1], "the writer is their substitute");
    let [one, other] = readers;
    let guards = [turn(one).await, turn(other).await];
    let announced = async || scene.call(&["HEXISTS", HOLDERS, "writer"]).await == "1";
    eventually("it is announced", announced).await;
    let the_writer = scene.call(&["ZRANGE", LINE, "0", "0"]).await;
    let reader = scene.wait(Mode::SHARED).await;
    // To the front of the line, with the same room and time.
    let the_reader = scene.call(&["ZRANGE", LINE, "1", "1"]).await;
    let score: u64 = scene.call(&["ZSCORE", LINE, &the_reader]).await.parse().unwrap();
    scene.call(&["ZADD", LINE, &(score % (64 * 32)).to_string(), &the_reader]).await;
    for guard in guards {
        guard.release().await.unwrap();
    }
    let [first, substitutes] = listener.next().await;
    assert_eq!((first, substitutes.len()), (vec![the_writer], 1), "the reader is its substitute");
    let guard = turn(writer).await;
    assert_eq!(guard.fence().unwrap().number(), 4);
    guard.release().await.unwrap();
    turn(reader).await.release().await.unwrap();
}

/// A reader that stays keeps no other reader out, and no release notifies of it.
#[tokio::test]
async fn more_readers_than_a_notification_names_enter_together() {
    let scene = Scene::set().await;
    let held = held();
    granted(&scene.mine, &held).await;
    let mut readers = Vec::new();
    for _ in 0..4 {
        readers.push(scene.wait(Mode::SHARED).await);
    }
    // In front of them: as many as a notification names.
    for number in 0..64 {
        scene.enter_first(&format!("reader {number}"), "alive", "64").await;
    }
    let mut listener = Listener::start(&scene).await;
    assert!(released(&scene.mine, &held).await);
    assert_eq!(listener.count().await, [0, 0], "everyone is notified");
    let mut guards = Vec::new();
    for waiting in readers {
        guards.push(turn(waiting).await);
    }
}

#[tokio::test]
async fn a_permit_that_becomes_free_wakes_one_client() {
    let scene = Scene::set().await;
    let mode = Mode::Shared { permits: NonZeroU32::new(2) };
    let held = [0, 1].map(|_| held().with_mode(mode));
    for request in &held {
        granted(&scene.mine, request).await;
    }
    let (one, other) = (scene.wait(mode).await, scene.wait(mode).await);
    let mut listener = Listener::start(&scene).await;
    for (request, waiting) in held.iter().zip([one, other]) {
        assert!(released(&scene.mine, request).await);
        assert_eq!(listener.count().await[0], 1);
        drop(turn(waiting).await);
    }
}

/// What the line says is never decisive: a peer may not know it.
#[tokio::test]
async fn a_free_key_is_granted_to_a_client_that_is_not_in_line() {
    let scene = Scene::set().await;
    scene.enter_first("someone", "alive", "1").await;
    let request = held();
    granted(&scene.mine, &request).await;
    assert_eq!(scene.in_line().await, 1);
    let mut listener = Listener::start(&scene).await;
    assert!(released(&scene.mine, &request).await);
    assert_eq!(listener.next().await[0], ["someone"]);
}

/// A waiter that is refused by its own process is notified locally.
#[tokio::test]
async fn a_client_does_not_wait_in_line_for_itself() {
    let scene = Scene::set().await;
    let held = held();
    granted(&scene.mine, &held).await;
    let proxy = scene.proxy().await;
    let client = connect(&scene.server.url_through(proxy.address())).await;
    let sent = proxy.tally(Flow::Requests, || Occurrences::of("EVALSHA"));
    let locks = LockManager::new(client.clone());
    let [one, other] = [(); 2].map(|()| wait_with(locks.clone(), Mode::Exclusive));
    eventually("one of them is in line", async || scene.in_line().await == 1).await;
    let next = scene.wait(Mode::Exclusive).await;
    assert_eq!(sent.total(), 3, "of the head of the queue");
    assert!(released(&scene.mine, &held).await);
    let first = tokio::select! {
        guard = turn(one) => guard,
        guard = turn(other) => guard,
    };
    eventually("the other one was refused", async || sent.total() == 5).await;
    // Over the same connection, and therefore later.
    assert!(is_locked(&client, "job").await);
    assert_eq!(scene.in_line().await, 1, "the next one");
    first.release().await.unwrap();
    turn(next).await.release().await.unwrap();
}

#[tokio::test]
async fn a_user_without_rights_to_the_line_waits_and_wakes_everyone() {
    let scene = Scene::set().await;
    for forbidden in ["-zadd", "-zrange", "-zrem"] {
        let user =
            ["ACL", "SETUSER", "app", "reset", "on", ">secret", "~*", "&*", "+@all", forbidden];
        scene.call(&user).await;
        let url = scene.server.url().replace("redis://", "redis://app:secret@");
        let held = held();
        let limited = connect(&url).await;
        granted(&limited, &held).await;
        let one = scene.wait(Mode::Exclusive).await;
        let mut listener = Listener::start(&scene).await;
        assert!(released(&limited, &held).await);
        let everyone = [0, 0];
        let named = if forbidden == "-zadd" { [1, 0] } else { everyone };
        assert_eq!(listener.count().await, named, "{forbidden}");
        let guard = turn(one).await;
        let proxy = Proxy::start(scene.server.address()).await.unwrap();
        let url = url.replace(&scene.server.address().to_string(), &proxy.address().to_string());
        let sent = proxy.tally(Flow::Requests, || Occurrences::of("EVALSHA"));
        let client = connect(&url).await;
        let other = wait(client.clone(), Mode::Exclusive);
        eventually("it waits", async || sent.total() == 3).await;
        // Over the same connection: by now, it knows whether it is in line.
        assert!(is_locked(&client, "job").await);
        scene.enter_first("someone", "alive", "1").await;
        guard.release().await.unwrap();
        turn(other).await.release().await.unwrap();
        scene.call(&["DEL", LINE]).await;
    }
}

#[tokio::test]
async fn a_value_of_another_type_in_place_of_a_line_makes_no_difference() {
    let scene = Scene::set().await;
    let held = held();
    granted(&scene.mine, &held).await;
    scene.call(&["SET", LINE, "text"]).await;
    let proxy = scene.proxy().await;
    let client = connect(&scene.server.url_through(proxy.address())).await;
    let sent = proxy.tally(Flow::Requests, || Occurrences::of("EVALSHA"));
    let waiting = wait(client, Mode::Exclusive);
    eventually("it waits", async || sent.total() == 3).await;
    assert!(released(&scene.mine, &held).await);
    turn(waiting).await.release().await.unwrap();
}

#[tokio::test]
async fn a_line_is_no_lock() {
    let scene = Scene::set().await;
    scene.enter_first("someone", "alive", "1").await;
    let page = scene.mine.list(&ListRequest::new("")).await.unwrap();
    assert!(page.locks.is_empty());
}

#[tokio::test]
async fn clients_on_a_cluster_wait_in_line() {
    let cluster = RedisCluster::start_with(safe()).await.unwrap();
    let url = format!("redis-cluster://{}", cluster.addresses()[0]);
    let mine = connect(&url).await;
    let held = held();
    granted(&mine, &held).await;
    let line = "{syncguard:job}\u{37e}line";
    let in_line = async || cluster.nodes()[0].command(&["-c", "ZCARD", line]).await.unwrap();
    let mut waiting = Vec::new();
    for number in 1..4 {
        waiting.push(wait(connect(&url).await, Mode::Exclusive));
        eventually("it is in line", async || in_line().await == number.to_string()).await;
    }
    assert!(released(&mine, &held).await);
    for (number, waiting) in (2..).zip(waiting) {
        let guard = turn(waiting).await;
        assert_eq!(guard.fence().unwrap().number(), number);
        guard.release().await.unwrap();
    }
    assert_eq!(in_line().await, "0");
}
