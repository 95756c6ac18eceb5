use std::time::Duration;

use syncguard_testkit::server::MariadbServer;
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};

async fn query(mariadb: &MariadbServer, sql: &str) -> String {
    mariadb.command(&["--execute", sql]).await.unwrap()
}

#[tokio::test]
async fn a_started_server_has_its_settings() {
    let mariadb = MariadbServer::builder().setting("innodb-flush-log-at-trx-commit", "2");
    let mariadb = mariadb.start().await.unwrap();
    let setting = query(&mariadb, "SELECT @@innodb_flush_log_at_trx_commit").await;
    assert_eq!(setting, "2");
    let url = format!("mysql://root@127.0.0.1:{}/test", mariadb.port());
    assert_eq!(mariadb.url(), url);
}

#[tokio::test]
async fn committed_data_survives_a_kill() {
    let mariadb = MariadbServer::start().await.unwrap();
    query(&mariadb, "CREATE TABLE a (n INT) ENGINE=InnoDB; INSERT INTO a VALUES (1)").await;
    mariadb.kill().unwrap();
    mariadb.restart().await.unwrap();
    assert_eq!(query(&mariadb, "SELECT n FROM a").await, "1");
    mariadb.restart().await.unwrap();
    assert_eq!(query(&mariadb, "SELECT n FROM a").await, "1");
}

#[tokio::test]
async fn a_paused_server_does_not_greet_until_it_is_resumed() {
    let mariadb = MariadbServer::start().await.unwrap();
    mariadb.pause().unwrap();
    let mut connection = TcpStream::connect(mariadb.address()).await.unwrap();
    let greeting = timeout(Duration::from_millis(300), connection.read_u8()).await;
    assert!(greeting.is_err());
    mariadb.resume().unwrap();
    let greeting = timeout(Duration::from_secs(10), connection.read_u8()).await;
    assert!(greeting.unwrap().is_ok());
}
