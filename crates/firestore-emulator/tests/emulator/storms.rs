//! All ways to write concurrently: nothing is lost, and no reader sees part of a commit.

use gcloud_sdk::google::firestore::v1::{
    Document,
    batch_get_documents_request::ConsistencySelector,
    precondition::ConditionType,
    transaction_options::{ConcurrencyMode, Mode, ReadOnly, ReadWrite},
};
use tonic::{Code, Status};

use super::{
    Client, batch_get, begin, commit, commit_in, connect, document, number, only_if, set, start,
};

const ACCOUNTS: [&str; 4] = ["a", "b", "c", "d"];
const START: i64 = 100;
const TRANSFERS: usize = 25;

/// How an amount is transferred from one account to another.
#[derive(Clone, Copy)]
enum Method {
    Transaction(ConcurrencyMode),
    Preconditions,
}

async fn read_both(
    client: &Client,
    ids: [&str; 2],
    transaction: Option<Vec<u8>>,
) -> Result<[Document; 2], Status> {
    let consistency = transaction.map(ConsistencySelector::Transaction);
    let found = batch_get(client, &ids, consistency).await?;
    let found: Vec<Document> = found.into_iter().filter_map(document).collect();
    Ok(found.try_into().unwrap())
}

async fn transfer(client: &Client, ids: [&str; 2], method: Method) -> Result<(), Status> {
    let moved =
        |[from, to]: &[Document; 2]| [set(ids[0], number(from) - 1), set(ids[1], number(to) + 1)];
    match method {
        Method::Transaction(mode) => {
            let mode = ReadWrite { concurrency_mode: mode.into(), ..ReadWrite::default() };
            let transaction = begin(client, Some(Mode::ReadWrite(mode))).await;
            let both = read_both(client, ids, Some(transaction.clone())).await?;
            commit_in(client, &transaction, &moved(&both)).await?;
        }
        Method::Preconditions => {
            let both = read_both(client, ids, None).await?;
            let times = both.each_ref().map(|document| document.update_time.unwrap());
            let [from, to] = moved(&both);
            let writes = [(from, times[0]), (to, times[1])]
                .map(|(write, time)| only_if(write, ConditionType::UpdateTime(time)));
            commit(client, &writes).await?;
        }
    }
    Ok(())
}

async fn work(client: Client, worker: usize, method: Method) {
    for round in 0..TRANSFERS {
        let from = (worker + round) % ACCOUNTS.len();
        let to = (from + 1 + round % (ACCOUNTS.len() - 1)) % ACCOUNTS.len();
        while let Err(status) = transfer(&client, [ACCOUNTS[from], ACCOUNTS[to]], method).await {
            let conflict = matches!(status.code(), Code::Aborted | Code::FailedPrecondition);
            assert!(conflict, "{status}");
        }
    }
}

/// Returns the sum of all accounts at one time.
async fn sum(client: &Client) -> i64 {
    let transaction = begin(client, Some(Mode::ReadOnly(ReadOnly::default()))).await;
    let consistency = ConsistencySelector::Transaction(transaction);
    let found = batch_get(client, &ACCOUNTS, Some(consistency)).await.unwrap();
    found.into_iter().filter_map(document).map(|document| number(&document)).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_transfers_by_every_method_preserve_the_sum_at_all_times() {
    let (emulator, client) = start().await;
    commit(&client, &ACCOUNTS.map(|id| set(id, START))).await.unwrap();
    let methods = [
        Method::Transaction(ConcurrencyMode::Pessimistic),
        Method::Transaction(ConcurrencyMode::Optimistic),
        Method::Preconditions,
    ];
    let workers = (0..9).map(|worker| {
        let (client, method) = (connect(&emulator), methods[worker % methods.len()]);
        tokio::spawn(work(client, worker, method))
    });
    let workers: Vec<_> = workers.collect();
    let expected = START * i64::try_from(ACCOUNTS.len()).unwrap();
    let mut sums = 0;
    while !workers.iter().all(tokio::task::JoinHandle::is_finished) {
        assert_eq!(sum(&client).await, expected);
        sums += 1;
    }
    for worker in workers {
        worker.await.unwrap();
    }
    assert!(sums > 1, "nobody looked while it went on");
    assert_eq!(sum(&client).await, expected);
}
