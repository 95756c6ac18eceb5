//! The driver, behind the few words that the operations need. But for its errors, which `error.rs`
//! sorts, and for what `FirestoreConfig` takes, only this module and those within it know the driver.

mod document;
mod session;
mod settings;
mod subscription;
mod write;

use std::future::Future;

use gcloud_sdk::{
    google::firestore::v1::{
        self as api, BatchGetDocumentsRequest, CommitRequest, RunQueryRequest, StructuredQuery,
        batch_get_documents_response::Result as Found, run_query_request::QueryType,
    },
    tonic::{Code, Request, Response, Status, Streaming},
};

use syncguard_core::Timestamp;
use tokio::time::sleep;

use self::{
    document::micros,
    session::{Service, Sessions},
    write::query,
};
pub(crate) use self::{
    document::{Document, Fields, Value, Version, integer, integer_of, map, text},
    settings::{Endpoint, Settings},
    subscription::{News, Subscription},
    write::{Expect, Write, field_above, field_is},
};
use crate::{
    clock::{Sent, ServerClock, timestamp},
    error::{Failure, Refusal},
    layout::DocumentName,
    retry::pauses,
};

/// How often a read is repeated whose connection broke.
const REPEATS: usize = 2;

/// One multiplexed connection, made when it is first needed, and anew where its runtime has ended.
pub(crate) struct Client {
    settings: Settings,
    sessions: Sessions,
    pub(crate) clock: ServerClock,
}

/// What was read, and when by the server's clock.
#[derive(Debug)]
pub(crate) struct Read<T> {
    pub(crate) at: Timestamp,
    pub(crate) found: T,
}

/// What a commit did.
#[derive(Debug)]
pub(crate) struct Committed {
    /// When, by the server's clock.
    pub(crate) at: Timestamp,
    /// The versions that it made, in the order of the writes.
    pub(crate) versions: Vec<Version>,
}

/// Says which documents are looked for, and how many at the most.
pub(crate) struct Search<'a> {
    pub(crate) condition: Option<api::structured_query::Filter>,
    /// Sorted by this field, and behind this value of it.
    pub(crate) order: Option<(&'a str, Option<&'a str>)>,
    pub(crate) limit: usize,
}

impl Client {
    pub(crate) fn new(settings: Settings, clock: ServerClock) -> Self {
        Self { settings, sessions: Sessions::default(), clock }
    }

    /// Reads documents, all as of one time: one round trip.
    pub(crate) async fn read<const N: usize>(
        &self,
        names: [&DocumentName; N],
    ) -> Result<Read<[Option<Document>; N]>, Failure> {
        let Read { at, mut found } = self.read_all(&names).await?;
        let mut take = |name: &DocumentName| {
            let index = found.iter().position(|document: &Document| document.name == *name)?;
            Some(found.swap_remove(index))
        };
        Ok(Read { at, found: names.map(&mut take) })
    }

    /// Reads any number of documents, and gives those that there are.
    ///
    /// The answers come in any order, and each tells a time. What an earlier one says still holds at the
    /// time of a later one, so the latest is that of all.
    pub(crate) async fn read_all(
        &self,
        names: &[&DocumentName],
    ) -> Result<Read<Vec<Document>>, Failure> {
        let (sent, responses) = repeated(|| async {
            let mut service = self.service().await?;
            let request = self.request(BatchGetDocumentsRequest {
                database: self.settings.database.clone(),
                documents: names.iter().map(|name| name.as_str().to_owned()).collect(),
                ..BatchGetDocumentsRequest::default()
            });
            let read = async { collect(service.batch_get_documents(request).await?).await };
            self.bounded(read).await.map_err(|status| Failure::reading(&status))
        })
        .await?;
        let time = responses.iter().filter_map(|response| response.read_time.as_ref());
        let at = self.observe(time.map(micros).max(), sent)?;
        let found = responses.into_iter().filter_map(|response| match response.result {
            Some(Found::Found(document)) => Some(Document::from(document)),
            _ => None,
        });
        Ok(Read { at, found: found.collect() })
    }

    /// Finds locks.
    pub(crate) async fn search(&self, search: Search<'_>) -> Result<Read<Vec<Document>>, Failure> {
        let query: StructuredQuery = query(&self.settings.locks, search);
        let message = RunQueryRequest {
            parent: format!("{}/documents", self.settings.database),
            query_type: Some(QueryType::StructuredQuery(query)),
            ..RunQueryRequest::default()
        };
        let (sent, responses) = repeated(|| async {
            let mut service = self.service().await?;
            let request = self.request(message.clone());
            let found = async { collect(service.run_query(request).await?).await };
            self.bounded(found).await.map_err(|status| Failure::reading(&status))
        })
        .await?;
        let time = responses.iter().filter_map(|response| response.read_time.as_ref());
        let at = self.observe(time.map(micros).max(), sent)?;
        let found = responses.into_iter().filter_map(|response| response.document);
        Ok(Read { at, found: found.map(Document::from).collect() })
    }

    /// Writes all or nothing: one round trip. `None` where nothing was written because something was
    /// not as expected, or others wrote at the same time.
    pub(crate) async fn commit(&self, writes: Vec<Write>) -> Result<Option<Committed>, Failure> {
        let mut service = self.service().await?;
        let request = self.request(CommitRequest {
            database: self.settings.database.clone(),
            writes: writes.into_iter().map(Into::into).collect(),
            ..CommitRequest::default()
        });
        let sent = Sent::now();
        let response = match self.bounded(service.commit(request)).await {
            Ok(response) => response.into_inner(),
            // Which code tells of a condition that does not hold is not documented for each case.
            Err(status) if is_conflict(status.code()) => return Ok(None),
            Err(status) => return Err(Failure::committing(&status)),
        };
        let committed = response.commit_time.as_ref().map(micros);
        let at =
            self.observe(committed, sent).map_err(|failure| Failure::HalfDone(failure.into()))?;
        let versions = response.write_results.into_iter().map(|result| result.update_time);
        Ok(Some(Committed { at, versions: versions.flatten().map(Version::from).collect() }))
    }

    /// Begins to listen for changes of documents.
    pub(crate) async fn listen(
        &self,
        targets: &[(i32, DocumentName)],
    ) -> Result<Subscription, Failure> {
        let service = self.service().await?;
        Subscription::open(service, &self.settings, targets).await
    }

    async fn service(&self) -> Result<Service, Failure> {
        self.sessions.service(&self.settings).await
    }

    /// Tells the server how long its answer is waited for.
    fn request<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        request.set_timeout(self.settings.request_timeout);
        request
    }

    /// Ends a call in time, with its token, its connecting and all of its answers. By itself the driver
    /// waits for ever.
    ///
    /// The driver's own limits do the same with three timers for each call, and cost the more the more
    /// calls there are.
    async fn bounded<T>(&self, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        tokio::select! {
            // What the server is told ends the call as well, a little later and with another code.
            biased;
            () = sleep(self.settings.request_timeout) => {
                Err(Status::deadline_exceeded("there was no answer in time"))
            }
            done = call => done,
        }
    }

    fn observe(&self, time: Option<i64>, sent: Sent) -> Result<Timestamp, Failure> {
        let time = time.ok_or(Failure::Unreadable("the server's time"))?;
        self.clock.observe(time, sent);
        Ok(timestamp(time))
    }
}

fn is_conflict(code: Code) -> bool {
    matches!(code, Code::Aborted | Code::FailedPrecondition | Code::AlreadyExists | Code::NotFound)
}

/// Reads, again and at once where the connection broke: what is read changes nothing. Gives when it was
/// asked for, too.
///
/// The first call after a cut may still meet the connection that is going down.
async fn repeated<T, F>(mut call: impl FnMut() -> F) -> Result<(Sent, T), Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let mut pauses = pauses().take(REPEATS);
    loop {
        let sent = Sent::now();
        let failure = match call().await {
            Ok(read) => return Ok((sent, read)),
            Err(failure) => failure,
        };
        let Some(pause) = pauses.next().filter(|_| is_broken(&failure)) else {
            return Err(failure);
        };
        tracing::debug!(%failure, "a read is repeated");
        sleep(pause).await;
    }
}

fn is_broken(failure: &Failure) -> bool {
    use Code::{Cancelled, Internal, Unavailable, Unknown};
    matches!(
        failure,
        Failure::Refused(Refusal { code: Unavailable | Cancelled | Unknown | Internal, .. }, _)
    )
}

async fn collect<T>(response: Response<Streaming<T>>) -> Result<Vec<T>, Status> {
    let mut stream = response.into_inner();
    let mut responses = Vec::new();
    while let Some(response) = stream.message().await? {
        responses.push(response);
    }
    Ok(responses)
}
