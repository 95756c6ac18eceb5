use syncguard_testkit::server::{PgBouncer, PgBouncerServer, PostgresServer};

async fn ask(pooler: &PgBouncerServer, sql: &str) -> String {
    pooler.command(&["-c", sql]).await.unwrap()
}

#[tokio::test]
async fn clients_of_a_pooler_share_the_connections_of_the_server() {
    let postgres = PostgresServer::start().await.unwrap();
    let pooler = PgBouncer::before(postgres.address()).setting("default_pool_size", "1");
    let pooler = pooler.start().await.unwrap();
    let ask_pid = "SELECT pg_backend_pid()";
    assert_eq!(ask(&pooler, ask_pid).await, ask(&pooler, ask_pid).await);
    assert_eq!(ask(&pooler, "SELECT current_user").await, "postgres");
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", pooler.port());
    assert_eq!(pooler.url(), url);
}

#[tokio::test]
async fn a_pooler_goes_on_when_its_server_was_restarted() {
    let postgres = PostgresServer::start().await.unwrap();
    let pooler = PgBouncer::before(postgres.address()).start().await.unwrap();
    assert_eq!(ask(&pooler, "SELECT 1").await, "1");
    postgres.restart().await.unwrap();
    // It notices the end of a connection by itself, or by the first query over it.
    let _ = pooler.command(&["-c", "SELECT 1"]).await;
    assert_eq!(ask(&pooler, "SELECT 1").await, "1");
}
