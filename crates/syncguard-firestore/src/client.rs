//! The driver, behind the few calls that the operations need. Only this module and its submodules
//! know the driver, except for its errors (sorted in `error.rs`) and what `FirestoreConfig`
//! accepts.

mod document;
mod query;
mod session;
mod settings;
mod subscription;
mod write;

use std::{future::Future, sync::Arc, time::Duration};

use gcloud_sdk::{
    google::firestore::v1::{
        BatchGetDocumentsRequest, CommitRequest, RunQueryRequest, StructuredQuery,
        batch_get_documents_response::Result as Found, run_query_request::QueryType,
    },
    tonic::{Code, Request, Response, Status, Streaming},
};

use syncguard_core::Timestamp;
use tokio::time::{sleep, sleep_until};

use self::{
    document::micros,
    query::{descendants, query},
    session::{InFlightGuard, Service, Session},
};
pub(crate) use self::{
    document::{
        Document, Fields, Value, Version, array, integer, integer_of, map, map_of, text, text_of,
    },
    query::{Search, field_above, field_is_or_contains, field_up_to},
    session::Lane,
    settings::{Endpoint, Settings},
    subscription::{Notification, Subscription},
    write::{Expect, Write},
};
use crate::{
    clock::{Sent, ServerClock, timestamp},
    error::{Failure, Refusal, late},
    names::DocumentName,
    retry::{Deadline, backoff},
    runtimes::PerRuntime,
};

/// The maximum number of retries of a read whose connection broke.
const MAX_READ_RETRIES: usize = 2;

/// The unit of the timeouts that are passed to the server.
const TIMEOUT_STEP: Duration = Duration::from_millis(100);

/// The connections to the server, one set per runtime of the callers, and what is known about its
/// clock.
pub(crate) struct Client {
    settings: Arc<Settings>,
    sessions: PerRuntime<Session>,
    pub(crate) clock: ServerClock,
}

/// What the requests of an operation have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    lane: Lane,
    pub(crate) deadline: Deadline,
}

impl Call {
    /// Reserves part of the time for what comes afterwards.
    pub(crate) fn reserving(self, time: Duration) -> Self {
        Self { deadline: self.deadline.earlier(time), ..self }
    }
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

impl Client {
    pub(crate) fn new(settings: Settings, clock: ServerClock) -> Self {
        Self { settings: Arc::new(settings), sessions: PerRuntime::default(), clock }
    }

    /// Begins an operation, whose requests all end within the request timeout.
    pub(crate) fn call(&self, lane: Lane) -> Call {
        Call { lane, deadline: Deadline::after(self.settings.request_timeout) }
    }

    /// How much of an operation's time is reserved for a read that determines the outcome of its
    /// commit.
    pub(crate) fn outcome_reserve(&self) -> Duration {
        self.settings.request_timeout / 4
    }

    /// Reads documents, all as of one time: one round trip.
    pub(crate) async fn read<const N: usize>(
        &self,
        call: Call,
        names: [&DocumentName; N],
    ) -> Result<Read<[Option<Document>; N]>, Failure> {
        let Read { at, mut found } = self.read_all(call, &names).await?;
        let mut take = |name: &DocumentName| {
            let index = found.iter().position(|document: &Document| document.name == *name)?;
            Some(found.swap_remove(index))
        };
        Ok(Read { at, found: names.map(&mut take) })
    }

    /// Reads any number of documents, and returns those that exist.
    ///
    /// The answers arrive in any order, each with a read time. What an earlier answer shows still
    /// holds at the time of a later one, so the latest time holds for all.
    pub(crate) async fn read_all(
        &self,
        call: Call,
        names: &[&DocumentName],
    ) -> Result<Read<Vec<Document>>, Failure> {
        let (sent, responses) = retry_read(|| async {
            let (mut service, _in_flight) = self.service(call).await?;
            let message = BatchGetDocumentsRequest {
                database: self.settings.database.clone(),
                documents: names.iter().map(|name| name.as_str().to_owned()).collect(),
                ..BatchGetDocumentsRequest::default()
            };
            let request = request(call, message);
            let read = async { collect(service.batch_get_documents(request).await?).await };
            with_deadline(call, read).await.map_err(|status| Failure::reading(&status))
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

    /// Finds locks directly in their collection.
    pub(crate) async fn search(
        &self,
        call: Call,
        search: Search<'_>,
    ) -> Result<Read<Vec<Document>>, Failure> {
        self.run(call, query(&self.settings.locks, search)).await
    }

    /// Reads a page of all documents in the collection of locks, at any depth, in the order of
    /// names.
    pub(crate) async fn descendants(
        &self,
        call: Call,
        after: Option<&DocumentName>,
        limit: usize,
    ) -> Result<Read<Vec<Document>>, Failure> {
        let Settings { database, locks, .. } = &*self.settings;
        self.run(call, descendants(database, locks, after, limit)).await
    }

    /// Reads a page of all fence counters, at any depth, in the order of names.
    pub(crate) async fn counters(
        &self,
        call: Call,
        after: Option<&DocumentName>,
        limit: usize,
    ) -> Result<Read<Vec<Document>>, Failure> {
        let Settings { database, fences, .. } = &*self.settings;
        self.run(call, descendants(database, fences, after, limit)).await
    }

    async fn run(
        &self,
        call: Call,
        query: StructuredQuery,
    ) -> Result<Read<Vec<Document>>, Failure> {
        let message = RunQueryRequest {
            parent: format!("{}/documents", self.settings.database),
            query_type: Some(QueryType::StructuredQuery(query)),
            ..RunQueryRequest::default()
        };
        let (sent, responses) = retry_read(|| async {
            let (mut service, _in_flight) = self.service(call).await?;
            let request = request(call, message.clone());
            let found = async { collect(service.run_query(request).await?).await };
            with_deadline(call, found).await.map_err(|status| Failure::reading(&status))
        })
        .await?;
        let time = responses.iter().filter_map(|response| response.read_time.as_ref());
        let at = self.observe(time.map(micros).max(), sent)?;
        let found = responses.into_iter().filter_map(|response| response.document);
        Ok(Read { at, found: found.map(Document::from).collect() })
    }

    /// Writes all or nothing: one round trip. Returns `None` if nothing was written because a
    /// condition did not hold, or because others wrote at the same time.
    pub(crate) async fn commit(
        &self,
        call: Call,
        writes: Vec<Write>,
    ) -> Result<Option<Committed>, Failure> {
        let (mut service, _in_flight) = self.service(call).await?;
        let message = CommitRequest {
            database: self.settings.database.clone(),
            writes: writes.into_iter().map(Into::into).collect(),
            ..CommitRequest::default()
        };
        if call.deadline.remaining().is_zero() {
            return Err(Failure::late());
        }
        let request = request(call, message);
        let sent = Sent::now();
        let response = match with_deadline(call, service.commit(request)).await {
            Ok(response) => response.into_inner(),
            // Which code reports a failed condition is not documented for each case.
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
        let (service, _in_flight) = self.service(self.call(Lane::Common)).await?;
        Subscription::open(service, &self.settings, targets).await
    }

    /// Returns the connection for a call, and a guard to keep until the call ends.
    async fn service(&self, call: Call) -> Result<(Service, InFlightGuard), Failure> {
        let session = self.sessions.current()?;
        let service = session.service(call.lane, &self.settings);
        // Only fetching credentials can take long.
        let late = || Failure::NoCredentialsYet("they did not come in time".to_owned());
        tokio::time::timeout(call.deadline.remaining(), service)
            .await
            .unwrap_or_else(|_| Err(late()))
    }

    fn observe(&self, time: Option<i64>, sent: Sent) -> Result<Timestamp, Failure> {
        let time = time.ok_or(Failure::UnreadableAnswer("time"))?;
        self.clock.observe(time, sent);
        Ok(timestamp(time))
    }
}

/// Passes to the server how long the client waits for its answer.
fn request<M>(call: Call, message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.set_timeout(server_timeout(call.deadline.remaining()));
    request
}

/// Rounds a timeout up. The client keeps the exact one itself.
///
/// HTTP/2 sends a header that an earlier request had by its index. An exact timeout is new in each
/// request: both sides would have to transfer it, to index it, and to evict another header.
fn server_timeout(remaining: Duration) -> Duration {
    let steps = remaining.as_nanos().div_ceil(TIMEOUT_STEP.as_nanos());
    TIMEOUT_STEP.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX))
}

/// Ends a request at the deadline, including its token, its connect and all of its answers. By
/// itself the driver waits forever.
///
/// The driver's own limits do the same with three timers for each request, and cost more the more
/// requests there are.
async fn with_deadline<T>(
    call: Call,
    request: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    tokio::select! {
        // The limit that the server knows also ends the request, a little later and with another
        // code.
        biased;
        () = sleep_until(call.deadline.instant()) => Err(late()),
        done = request => done,
    }
}

fn is_conflict(code: Code) -> bool {
    matches!(code, Code::Aborted | Code::FailedPrecondition | Code::AlreadyExists | Code::NotFound)
}

/// Reads, and retries the read if the connection broke: a read changes nothing. Also returns when
/// it was requested.
///
/// The first call after a disconnect may still use the connection that is going down.
async fn retry_read<T, F>(mut call: impl FnMut() -> F) -> Result<(Sent, T), Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let mut backoff = backoff().take(MAX_READ_RETRIES);
    loop {
        let sent = Sent::now();
        let failure = match call().await {
            Ok(read) => return Ok((sent, read)),
            Err(failure) => failure,
        };
        let Some(delay) = backoff.next().filter(|_| is_broken(&failure)) else {
            return Err(failure);
        };
        tracing::debug!(%failure, "a read is repeated");
        sleep(delay).await;
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::server_timeout;

    #[test]
    fn the_timeout_of_the_server_is_not_shorter_and_is_shared_by_requests_close_together() {
        let micros = Duration::from_micros;
        assert_eq!(server_timeout(micros(5_000_000)), micros(5_000_000));
        assert_eq!(server_timeout(micros(4_999_999)), micros(5_000_000));
        assert_eq!(server_timeout(micros(4_900_001)), micros(5_000_000));
        assert_eq!(server_timeout(micros(1)), micros(100_000));
        assert_eq!(server_timeout(Duration::ZERO), Duration::ZERO);
        assert!(server_timeout(Duration::MAX) > Duration::from_secs(3_600));
    }
}
