use syncguard_testkit::server::{PgBouncer, PgBouncerServer, PostgresServer};

async fn query(pooler: &PgBouncerServer, sql: &str) -> String {
    pooler.command(&["-c", sql]).await.unwrap()
}

#[tokio::test]
async fn clients_of_a_pooler_share_the_connections_of_the_server() {
    let postgres = PostgresServer::start().await.unwrap();
    let pooler = PgBouncer::before(postgres.address()).setting("default_pool_size", "1");
    let pooler = pooler.start().await.unwrap();
    let select_pid = "SELECT pg_backend_pid()";
    assert_eq!(query(&pooler, select_pid).await, query(&pooler, select_pid).await);
    assert_eq!(query(&pooler, "SELECT current_user").await, "postgres");
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", pooler.port());
    assert_eq!(pooler.url(), url);
}

#[tokio::test]
async fn a_pooler_keeps_working_after_a_restart_of_its_server() {
    let postgres = PostgresServer::start().await.unwrap();
    let pooler = PgBouncer::before(postgres.address()).start().await.unwrap();
    assert_eq!(query(&pooler, "SELECT 1").await, "1");
    postgres.restart().await.unwrap();
    // It detects a closed connection by itself, or with the first query on it.
    let _ = pooler.command(&["-c", "SELECT 1"]).await;
    assert_eq!(query(&pooler, "SELECT 1").await, "1");
}
