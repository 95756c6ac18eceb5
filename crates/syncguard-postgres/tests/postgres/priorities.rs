//! The order in which requests are served if there are few connections. It does not depend on
//! timing.

use syncguard_testkit::sql::priorities::{self, Scarce};

use crate::{Foreign, Names, queueing::hold_counter, shared};

/// Lets the server record each change of a lock from now on, in the order of the statements.
async fn record_changes(foreign: &mut Foreign, locks: &str) {
    let sql = format!(
        "CREATE TABLE {locks}_changes (number bigserial, operation text);
         CREATE FUNCTION {locks}_record() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO {locks}_changes (operation) VALUES (TG_OP);
             RETURN NULL;
         END $$;
         CREATE TRIGGER record AFTER INSERT OR UPDATE OR DELETE ON {locks}
             FOR EACH ROW EXECUTE FUNCTION {locks}_record()"
    );
    foreign.run(&sql).await;
}

/// Returns the recorded changes, in order.
async fn changes(foreign: &mut Foreign, locks: &str) -> String {
    let sql = format!("SELECT string_agg(operation, ' ' ORDER BY number) FROM {locks}_changes");
    foreign.text(&sql).await
}

#[tokio::test]
async fn extends_are_sent_before_releases_and_releases_before_acquires() {
    let mut scarce = Scarce::<Names>::new().await;
    record_changes(&mut scarce.watch, &scarce.tables.locks).await;
    priorities::extends_are_sent_before_releases_and_releases_before_acquires(
        scarce,
        async |scarce, _| {
            // The order at the server: a busy client may see the answers in another one.
            let acquired = "INSERT INSERT INSERT INSERT INSERT INSERT";
            let extends_first = "UPDATE UPDATE DELETE DELETE DELETE INSERT INSERT INSERT";
            let changes = changes(&mut scarce.watch, &scarce.tables.locks).await;
            assert_eq!(changes, format!("{acquired} {extends_first}"));
        },
    )
    .await;
}

#[tokio::test]
async fn an_extend_does_not_wait_for_acquires_that_hang() {
    let server = shared().await;
    let hold = async |scarce: &Scarce<Names>, text: &str| {
        hold_counter(&server, &scarce.tables, text).await
    };
    priorities::an_extend_does_not_wait_for_acquires_that_hang(hold).await;
}

#[tokio::test]
async fn a_thousand_waiters_open_a_few_connections_at_a_time() {
    priorities::a_thousand_waiters_open_a_few_connections_at_a_time::<Names>().await;
}
