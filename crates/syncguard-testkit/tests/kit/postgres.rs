use std::time::Duration;

use syncguard_testkit::server::PostgresServer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// A table that a crash empties, and one that it does not.
const TABLES: &str = "CREATE TABLE kept (n int); CREATE UNLOGGED TABLE lost (n int);
    INSERT INTO kept VALUES (1); INSERT INTO lost VALUES (1)";
const COUNTS: &str = "SELECT (SELECT count(*) FROM kept), (SELECT count(*) FROM lost)";

async fn query(postgres: &PostgresServer, sql: &str) -> String {
    postgres.command(&["-c", sql]).await.unwrap()
}

#[tokio::test]
async fn a_started_server_has_its_settings() {
    let postgres =
        PostgresServer::builder().setting("default_transaction_isolation", "repeatable read");
    let postgres = postgres.start().await.unwrap();
    let isolation = query(&postgres, "SHOW default_transaction_isolation").await;
    assert_eq!(isolation, "repeatable read");
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", postgres.port());
    assert_eq!(postgres.url(), url);
}

#[tokio::test]
async fn a_second_server_gets_a_copy_of_the_data_directory_of_the_first() {
    let (first, second) = tokio::join!(PostgresServer::start(), PostgresServer::start());
    let (first, second) = (first.unwrap(), second.unwrap());
    let select_identity = "SELECT system_identifier FROM pg_control_system()";
    let identity = query(&first, select_identity).await;
    assert_eq!(identity, query(&second, select_identity).await);
    query(&first, "CREATE TABLE a (n int)").await;
    assert!(second.command(&["-c", "TABLE a"]).await.is_err());
}

#[tokio::test]
async fn a_kill_is_a_crash_and_a_restart_is_a_clean_shutdown() {
    let postgres = PostgresServer::start().await.unwrap();
    query(&postgres, TABLES).await;
    postgres.restart().await.unwrap();
    assert_eq!(query(&postgres, COUNTS).await, "1|1");
    postgres.kill().unwrap();
    postgres.restart().await.unwrap();
    assert_eq!(query(&postgres, COUNTS).await, "1|0");
}

#[tokio::test]
async fn a_paused_server_does_not_answer_on_open_connections_until_it_is_resumed() {
    let postgres = PostgresServer::start().await.unwrap();
    let mut session = Session::open(&postgres).await;
    postgres.pause().unwrap();
    session.send(b'Q', b"SELECT 1\0").await;
    let silence = timeout(Duration::from_millis(300), session.until_ready()).await;
    assert!(silence.is_err());
    postgres.resume().unwrap();
    timeout(Duration::from_secs(10), session.until_ready()).await.unwrap();
}

#[tokio::test]
async fn a_dropped_server_leaves_none_of_its_processes() {
    let postgres = PostgresServer::start().await.unwrap();
    let select_pid = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'";
    let child = query(&postgres, select_pid).await;
    let home = postgres.data_dir().parent().unwrap().to_owned();
    let stat = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    assert!(stat(&child).is_some());
    drop(postgres);
    let left = stat(&child).filter(|stat| !stat.contains(") Z "));
    assert_eq!(left, None);
    assert!(!home.exists());
}

/// A connection that stays open, unlike those of `psql`.
struct Session(TcpStream);

impl Session {
    async fn open(postgres: &PostgresServer) -> Self {
        let stream = TcpStream::connect(postgres.address()).await.unwrap();
        let mut session = Self(stream);
        // Version 3.0 of the protocol, the user, and nothing else: a message without a kind.
        let startup = b"\0\0\0\x17\0\x03\0\0user\0postgres\0\0";
        session.0.write_all(startup).await.unwrap();
        session.until_ready().await;
        session
    }

    async fn send(&mut self, kind: u8, body: &[u8]) {
        let length = u32::try_from(body.len() + 4).unwrap();
        let message = [&[kind], &length.to_be_bytes()[..], body].concat();
        self.0.write_all(&message).await.unwrap();
    }

    /// Reads messages up to ReadyForQuery. Each begins with a kind and a length.
    async fn until_ready(&mut self) {
        loop {
            let kind = self.0.read_u8().await.unwrap();
            let length = self.0.read_u32().await.unwrap();
            let mut body = vec![0; usize::try_from(length).unwrap() - 4];
            self.0.read_exact(&mut body).await.unwrap();
            assert_ne!(kind, b'E', "{}", String::from_utf8_lossy(&body));
            if kind == b'Z' {
                return;
            }
        }
    }
}
