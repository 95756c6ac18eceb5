use std::{
    env,
    io::{BufRead, BufReader, Read},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use syncguard_testkit::server::{PostgresServer, RedisServer, ServerError};

use crate::resp::request;

const HOLDER: &str = "SYNCGUARD_TESTS_HOLDER";
const DEATH_TIMEOUT: Duration = Duration::from_secs(10);

/// The resources of a server, which must not outlive it.
struct Resources {
    pid: u32,
    port: u16,
    home: PathBuf,
}

impl Resources {
    fn of(redis: &RedisServer) -> Self {
        let home = redis.data_dir().parent().unwrap().to_owned();
        let (pid, port) = (redis.pid().unwrap(), redis.port());
        assert!(Path::new("/proc").join(pid.to_string()).exists());
        assert!(home.exists());
        Self { pid, port, home }
    }

    fn assert_released(&self) {
        assert!(!is_running(self.pid));
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err());
        assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).is_ok());
        assert!(!self.home.exists());
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// Returns whether a process is running. A zombie is not.
fn is_running(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    status.is_ok_and(|status| !status.contains("State:\tZ"))
}

#[tokio::test]
async fn a_dropped_server_leaves_no_process_no_port_and_no_directory() {
    let redis = RedisServer::start().await.unwrap();
    let resources = Resources::of(&redis);
    drop(redis);
    resources.assert_released();
}

#[tokio::test]
async fn a_dropped_server_that_is_paused_leaves_nothing_behind() {
    let redis = RedisServer::start().await.unwrap();
    let resources = Resources::of(&redis);
    redis.pause().unwrap();
    drop(redis);
    resources.assert_released();
}

#[tokio::test]
async fn a_dropped_postgres_leaves_no_shared_memory() {
    let postgres = PostgresServer::start().await.unwrap();
    let state = std::fs::read_to_string(postgres.data_dir().join("postmaster.pid")).unwrap();
    let segment = state.lines().nth(6).unwrap().split_whitespace().nth(1).unwrap().to_owned();
    // The second column of the kernel's table has the ids.
    let exists = || {
        let segments = std::fs::read_to_string("/proc/sysvipc/shm").unwrap();
        segments.lines().any(|line| line.split_whitespace().nth(1) == Some(&segment))
    };
    assert!(exists());
    drop(postgres);
    assert!(!exists());
}

#[tokio::test]
async fn a_test_that_panics_leaves_nothing_behind() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let panicking = tokio::spawn(async move {
        let redis = RedisServer::start().await.unwrap();
        sender.send(Resources::of(&redis)).unwrap();
        panic!("a test that fails while its server runs");
    });
    assert!(panicking.await.unwrap_err().is_panic());
    receiver.recv().unwrap().assert_released();
}

#[tokio::test]
async fn a_cancelled_start_leaves_nothing_behind() {
    let port = free_port();
    // It never answers on the socket that the kit connects to.
    let builder = RedisServer::builder().ports([port]);
    let start = builder.setting("unixsocket", "elsewhere").start();
    let listens = async {
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        started = start => panic!("{started:?}"),
        () = listens => {}
    }
    assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
}

#[tokio::test]
async fn a_port_that_was_taken_in_the_meantime_is_skipped() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (taken, free) = (listener.local_addr().unwrap().port(), free_port());
    let redis = RedisServer::builder().ports([taken, free]).start();
    let redis = redis.await.unwrap();
    assert_eq!(redis.port(), free);
    assert_eq!(request(redis.address(), "PING").await, "+PONG");
}

#[tokio::test]
async fn another_server_on_the_port_is_not_mistaken_for_the_started_one() {
    let other = RedisServer::start().await.unwrap();
    let refused = RedisServer::builder().ports([other.port()]).start().await;
    let Err(ServerError::PortsTaken { tried, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(tried, [other.port()]);
}

#[tokio::test]
async fn a_server_outlives_the_thread_that_started_it() {
    let starter = thread::spawn(|| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(RedisServer::start()).unwrap()
    });
    let redis = starter.join().unwrap();
    // The parent death signal would be sent at the end of that thread.
    thread::sleep(Duration::from_millis(100));
    assert_eq!(request(redis.address(), "PING").await, "+PONG");
}

/// Runs twice: as the test, and in another process as the one that is killed.
#[tokio::test]
async fn a_server_ends_with_the_process_that_started_it() {
    if env::var_os(HOLDER).is_some() {
        return hold().await;
    }
    let mut holder = start_holder("lifetime::a_server_ends_with_the_process_that_started_it");
    let (pid, home) = server_of(&mut holder);
    assert!(is_running(pid));
    holder.kill().unwrap();
    holder.wait().unwrap();
    let killed = Instant::now();
    while is_running(pid) {
        assert!(killed.elapsed() < DEATH_TIMEOUT, "the server outlived its starter");
        thread::sleep(Duration::from_millis(5));
    }
    // A killed process cannot remove its directory.
    std::fs::remove_dir_all(home).unwrap();
}

#[expect(clippy::print_stdout, reason = "this is how the test hears of the server")]
async fn hold() {
    let redis = RedisServer::start().await.unwrap();
    let Resources { pid, home, .. } = Resources::of(&redis);
    println!("\nholding {pid} {}", home.display());
    // Returns at the latest when the test ends.
    let _ = std::io::stdin().read(&mut [0]);
}

fn start_holder(test: &str) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(HOLDER, "yes")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn server_of(holder: &mut Child) -> (u32, PathBuf) {
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    let mut servers = lines.map_while(Result::ok).filter_map(|line| {
        let (pid, home) = line.strip_prefix("holding ")?.split_once(' ')?;
        Some((pid.parse().unwrap(), home.into()))
    });
    servers.next().unwrap()
}
