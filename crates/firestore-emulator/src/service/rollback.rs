use std::sync::Arc;

use gcloud_sdk::google::firestore::v1::RollbackRequest;
use tonic::Status;

use crate::{database::Database, name::DatabaseName, transaction::TransactionId};

pub(super) async fn answer(
    database: Arc<Database>,
    request: RollbackRequest,
) -> Result<(), Status> {
    let name = DatabaseName::parse(&request.database)?;
    database.rollback(&name, TransactionId::parse(&request.transaction)?)
}
