use std::sync::Arc;

use gcloud_sdk::google::firestore::v1::{
    Document, RunQueryRequest, RunQueryResponse, run_query_request::QueryType,
};
use tonic::Status;

use super::consistency::Consistency;
use crate::{database::Database, query::Query};

pub(super) async fn answer(
    database: Arc<Database>,
    request: RunQueryRequest,
) -> Result<Vec<RunQueryResponse>, Status> {
    if request.explain_options.is_some() {
        return Err(Status::unimplemented("queries are not explained here"));
    }
    let Some(QueryType::StructuredQuery(query)) = request.query_type else {
        return Err(Status::invalid_argument("there is no query"));
    };
    let query = Query::parse(&request.parent, query)?;
    let consistency = Consistency::from(request.consistency_selector);
    let (reading, begun) = consistency.resolve(&database, &query.database())?;
    let read = database.query(reading, &query).await?;
    let response = |document: Option<Document>| RunQueryResponse {
        document,
        read_time: Some(read.at.into()),
        ..RunQueryResponse::default()
    };
    let first = begun.map(|id| RunQueryResponse { transaction: id.to_bytes(), ..response(None) });
    let documents = read.of.iter().map(|document| response(Some(query.project(document))));
    let mut responses: Vec<_> = first.into_iter().chain(documents).collect();
    if responses.is_empty() {
        // Nothing was found, but the read time is reported nevertheless.
        responses.push(response(None));
    }
    Ok(responses)
}
