use std::sync::Arc;

use gcloud_sdk::google::firestore::v1::{CommitRequest, CommitResponse};
use tonic::Status;

use crate::{database::Database, name::DatabaseName, store::Mutation, transaction::TransactionId};

pub(super) async fn answer(
    database: Arc<Database>,
    request: CommitRequest,
) -> Result<CommitResponse, Status> {
    let name = DatabaseName::parse(&request.database)?;
    let mutations = request.writes.into_iter().map(|write| Mutation::parse(write, &name));
    let mutations: Vec<Mutation> = mutations.collect::<Result<_, _>>()?;
    let transaction = match &request.transaction[..] {
        [] => None,
        id => Some(TransactionId::parse(id)?),
    };
    let committed = database.commit(&name, transaction, &mutations).await?;
    let commit_time = Some(committed.at.into());
    Ok(CommitResponse { write_results: committed.results, commit_time })
}
