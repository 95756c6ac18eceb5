use syncguard_testkit::{
    find::Store,
    server::{Redis, Shareable},
};

#[tokio::test]
async fn a_shared_server_is_that_of_the_environment_or_one_for_all_tests() {
    let (one, other) = (Redis::shared().await.unwrap(), Redis::shared().await.unwrap());
    assert_eq!(one.url(), other.url());
    match Store::Redis.address() {
        Some(address) => {
            assert_eq!(one.url(), address);
            assert!(one.own().is_none());
        }
        None => {
            let (one, other) = (one.own().unwrap(), other.own().unwrap());
            assert_eq!(one.pid(), other.pid());
            let setting = one.command(&["CONFIG", "GET", "appendonly"]).await.unwrap();
            assert_eq!(setting, "appendonly\nyes");
        }
    }
}
