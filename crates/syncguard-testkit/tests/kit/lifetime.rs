use std::{
    env,
    io::{BufRead, BufReader, Read},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use syncguard_testkit::server::{RedisServer, ServerError};

use crate::resp::ask;

const HOLDER: &str = "SYNCGUARD_TESTS_HOLDER";
const LIMIT: Duration = Duration::from_secs(10);

/// What is to be gone when a server is.
struct Traces {
    pid: u32,
    port: u16,
    home: PathBuf,
}

impl Traces {
    fn of(redis: &RedisServer) -> Self {
        let home = redis.data_dir().parent().unwrap().to_owned();
        let (pid, port) = (redis.pid().unwrap(), redis.port());
        assert!(Path::new("/proc").join(pid.to_string()).exists());
        assert!(home.exists());
        Self { pid, port, home }
    }

    fn assert_gone(&self) {
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

/// Whether a process can still do something: one that nobody has waited for cannot.
fn is_running(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    status.is_ok_and(|status| !status.contains("State:\tZ"))
}

#[tokio::test]
async fn a_dropped_server_leaves_no_process_no_port_and_no_directory() {
    let redis = RedisServer::start().await.unwrap();
    let traces = Traces::of(&redis);
    drop(redis);
    traces.assert_gone();
}

#[tokio::test]
async fn a_dropped_server_that_is_paused_leaves_nothing_either() {
    let redis = RedisServer::start().await.unwrap();
    let traces = Traces::of(&redis);
    redis.pause().unwrap();
    drop(redis);
    traces.assert_gone();
}

#[tokio::test]
async fn a_test_that_panics_leaves_nothing() {
    let (tell, told) = std::sync::mpsc::channel();
    let panicking = tokio::spawn(async move {
        let redis = RedisServer::start().await.unwrap();
        tell.send(Traces::of(&redis)).unwrap();
        panic!("a test that fails while its server runs");
    });
    assert!(panicking.await.unwrap_err().is_panic());
    told.recv().unwrap().assert_gone();
}

#[tokio::test]
async fn a_start_that_is_given_up_leaves_nothing() {
    let port = free_port();
    // It never answers where it is asked.
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
async fn a_port_that_was_taken_meanwhile_is_passed_over() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (taken, free) = (listener.local_addr().unwrap().port(), free_port());
    let redis = RedisServer::builder().ports([taken, free]).start();
    let redis = redis.await.unwrap();
    assert_eq!(redis.port(), free);
    assert_eq!(ask(redis.address(), "PING").await, "+PONG");
}

#[tokio::test]
async fn another_server_on_the_port_is_not_taken_for_the_own() {
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
    // The parent death signal would come with the end of that thread.
    thread::sleep(Duration::from_millis(100));
    assert_eq!(ask(redis.address(), "PING").await, "+PONG");
}

/// Runs twice: as the test, and in a process of its own as the one that is killed.
#[tokio::test]
async fn a_server_dies_with_the_process_that_started_it() {
    if env::var_os(HOLDER).is_some() {
        return hold().await;
    }
    let mut holder = start_holder("lifetime::a_server_dies_with_the_process_that_started_it");
    let (pid, home) = server_of(&mut holder);
    assert!(is_running(pid));
    holder.kill().unwrap();
    holder.wait().unwrap();
    let killed = Instant::now();
    while is_running(pid) {
        assert!(killed.elapsed() < LIMIT, "the server outlived its starter");
        thread::sleep(Duration::from_millis(5));
    }
    // A process that is killed has no time to tidy up.
    std::fs::remove_dir_all(home).unwrap();
}

#[expect(clippy::print_stdout, reason = "this is how the test hears of the server")]
async fn hold() {
    let redis = RedisServer::start().await.unwrap();
    let Traces { pid, home, .. } = Traces::of(&redis);
    println!("\nholding {pid} {}", home.display());
    // Until the test is gone, at the latest.
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
