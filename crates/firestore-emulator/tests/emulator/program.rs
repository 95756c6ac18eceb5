//! The double as a program.

use std::process::Stdio;

use gcloud_sdk::google::firestore::v1::firestore_client::FirestoreClient;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};
use tonic::{Code, transport::Channel};

use super::{begin, code_of, commit, commit_in, read_in, set};

#[tokio::test]
async fn the_program_prints_its_address_and_serves() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_firestore-emulator"))
        .args(["--listen", "127.0.0.1:0", "--optimistic"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().unwrap();
    let address = line.strip_prefix("export FIRESTORE_EMULATOR_HOST=").unwrap();
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect_lazy();
    let client = FirestoreClient::new(channel);
    let transaction = begin(&client, None).await;
    read_in(&client, &transaction, "a").await.unwrap();
    commit(&client, &[set("a", 1)]).await.unwrap();
    let conflict = commit_in(&client, &transaction, &[set("a", 2)]).await;
    assert_eq!(code_of(conflict), Code::Aborted);
    program.kill().await.unwrap();
}
