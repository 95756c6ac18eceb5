use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::Command,
};

use syncguard_testkit::{find::Store, server::PersistentServer};
use tempfile::TempDir;

use crate::resp::request;

/// A directory whose server ends with the test, also when the test fails.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    async fn start(&self) -> PersistentServer {
        PersistentServer::start(Store::Redis, self.path(), free_port()).await.unwrap()
    }

    fn find(&self) -> Option<PersistentServer> {
        PersistentServer::find(Store::Redis, self.path()).unwrap()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Some(left) = self.find() {
            let kill = Command::new("kill").args(["-KILL", &left.pid().to_string()]).status();
            assert!(kill.unwrap().success());
        }
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn address(server: &PersistentServer) -> SocketAddr {
    server.url().strip_prefix("redis://").unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_persistent_server_is_found_again_and_started_once() {
    let home = Home::new();
    assert!(home.find().is_none());
    let started = home.start().await;
    let found = home.find().unwrap();
    assert_eq!((found.pid(), found.url()), (started.pid(), started.url()));
    assert_eq!(home.start().await.pid(), started.pid());
    assert_eq!(request(address(&found), "PING").await, "+PONG");
}

#[tokio::test]
async fn a_persistent_server_keeps_its_data_when_it_is_stopped() {
    let home = Home::new();
    let server = home.start().await;
    assert_eq!(request(address(&server), "SET a 1").await, "+OK");
    server.stop().await.unwrap();
    assert!(home.find().is_none());
    let server = home.start().await;
    assert_eq!(request(address(&server), "GET a").await, "1");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_persistent_server_uses_another_port_if_the_given_one_is_taken() {
    let home = Home::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let taken = listener.local_addr().unwrap();
    let server = PersistentServer::start(Store::Redis, home.path(), taken.port()).await.unwrap();
    assert_ne!(address(&server), taken);
    assert_eq!(request(address(&server), "PING").await, "+PONG");
}

#[tokio::test]
async fn a_later_process_with_the_same_pid_is_not_mistaken_for_the_server() {
    let home = Home::new();
    let mut other = Command::new("sleep").arg("60").spawn().unwrap();
    let record = format!("{} 1 redis://127.0.0.1:6379\n", other.id());
    fs::write(home.path().join("running"), record).unwrap();
    assert!(home.find().is_none());
    assert_eq!(other.try_wait().unwrap(), None);
    other.kill().unwrap();
    other.wait().unwrap();
}
