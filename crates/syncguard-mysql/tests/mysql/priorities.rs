//! The order in which requests are served if there are few connections. It does not depend on
//! timing.

use syncguard_testkit::{
    operations::released,
    sql::priorities::{self, Scarce},
};

use crate::Name;

#[tokio::test]
async fn extends_are_sent_before_releases_and_releases_before_acquires() {
    let scarce = Scarce::<Name>::new().await;
    priorities::extends_are_sent_before_releases_and_releases_before_acquires(
        scarce,
        async |_, order| {
            assert_eq!(order[..2], ["extend"; 2], "{order:?}");
            assert_eq!(order[2..5], ["release"; 3], "{order:?}");
            assert_eq!(order[5..], ["acquire"; 3], "{order:?}");
        },
    )
    .await;
}

#[tokio::test]
async fn an_extend_does_not_wait_for_acquires_that_hang() {
    let block = async |scarce: &Scarce<Name>, text: &str| {
        let wanted = scarce.acquire(text).await;
        assert!(released(&scarce.backend, &wanted).await);
        scarce.block(&wanted).await
    };
    priorities::an_extend_does_not_wait_for_acquires_that_hang(block).await;
}

#[tokio::test]
async fn a_thousand_waiters_open_a_few_connections_at_a_time() {
    priorities::a_thousand_waiters_open_a_few_connections_at_a_time::<Name>().await;
}
