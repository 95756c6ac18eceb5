//! Order, counts and virtual time: no test here depends on the speed of the machine.

mod connections;
mod opening;
mod waiting;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::Notify,
    task::{JoinHandle, yield_now},
    time::sleep,
};

use super::{LeaseError, Limits, Manager, Pool, Priority};

const WAIT: Duration = Duration::from_secs(4);
const OPEN: Duration = Duration::from_secs(5);

/// A server whose connections are numbered.
#[derive(Default)]
struct Server {
    /// The results of attempts to open.
    state: Mutex<Opens>,
    attempts: AtomicUsize,
    opened: AtomicUsize,
    closed: AtomicUsize,
    pings: AtomicUsize,
    is_silent: AtomicBool,
    /// The sessions that were ended.
    ended: Mutex<Vec<usize>>,
    keeps_sessions: AtomicBool,
    admits: Notify,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Opens {
    #[default]
    Immediately,
    Never,
    After(Duration),
    Fails,
    Rejects,
    WhenAdmitted,
    EveryFourth,
}

impl Server {
    fn opens(&self, opens: Opens) {
        *self.state.lock().unwrap() = opens;
    }
}

struct ToServer(Arc<Server>);

struct Connection {
    number: usize,
    server: Arc<Server>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.server.closed.fetch_add(1, SeqCst);
    }
}

impl Manager for ToServer {
    type Connection = Connection;
    type Error = &'static str;
    type Session = usize;

    async fn open(&self) -> Result<Connection, &'static str> {
        let started = self.0.attempts.fetch_add(1, SeqCst);
        let opens = *self.0.state.lock().unwrap();
        match opens {
            Opens::Immediately => {}
            Opens::Never => std::future::pending().await,
            Opens::After(time) => sleep(time).await,
            Opens::Fails => return Err("starting"),
            Opens::Rejects => return Err("wrong password"),
            Opens::EveryFourth if !started.is_multiple_of(4) => return Err("starting"),
            Opens::EveryFourth => {}
            Opens::WhenAdmitted => self.0.admits.notified().await,
        }
        Ok(Connection { number: self.0.opened.fetch_add(1, SeqCst), server: self.0.clone() })
    }

    async fn ping(&self, _: &mut Connection) -> Result<(), &'static str> {
        self.0.pings.fetch_add(1, SeqCst);
        if self.0.is_silent.load(SeqCst) {
            std::future::pending().await
        }
        Ok(())
    }

    fn is_transient(&self, error: &&'static str) -> bool {
        *error == "starting"
    }

    fn session(&self, connection: &Connection) -> Option<usize> {
        Some(connection.number)
    }

    async fn end(&self, sessions: &[usize]) -> Result<Vec<bool>, &'static str> {
        self.0.ended.lock().unwrap().extend(sessions);
        Ok(vec![!self.0.keeps_sessions.load(SeqCst); sessions.len()])
    }
}

fn pool(size: usize) -> (Pool<ToServer>, Arc<Server>) {
    let server = Arc::new(Server::default());
    let limits = Limits { size, wait: WAIT, open: OPEN };
    (Pool::new(ToServer(server.clone()), limits, Handle::current()), server)
}

type Log = Arc<Mutex<Vec<&'static str>>>;

/// Leases a connection in a task, logs its name, and returns the connection.
async fn lease_in_task(
    pool: &Pool<ToServer>,
    priority: Priority,
    name: &'static str,
    log: &Log,
) -> JoinHandle<Result<(), LeaseError<&'static str>>> {
    let (pool, log) = (pool.clone(), log.clone());
    let waiting = tokio::spawn(async move {
        let lease = pool.lease(priority).await?;
        log.lock().unwrap().push(name);
        lease.give_back();
        Ok(())
    });
    run_all_tasks().await;
    waiting
}

/// Lets all tasks run that are ready.
async fn run_all_tasks() {
    for _ in 0..20 {
        yield_now().await;
    }
}
