//! The behaviour that all methods share: faults, and calls whose caller is gone.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Response, Status,
    codegen::BoxFuture,
    server::{ServerStreamingService, UnaryService},
};

use super::{documents::Documents, shared::Shared};
use crate::{Rpc, connection::ConnectionHandle, database::Database, faults::Strike};

/// A call of a method, before its message is read.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) rpc: Rpc,
    pub(super) shared: Arc<Shared>,
    pub(super) connection: ConnectionHandle,
    pub(super) stop: CancellationToken,
}

impl Call {
    pub(super) fn strike(&self, documents: &[String]) -> Strike {
        self.shared.faults.strike(self.rpc, documents)
    }

    async fn perform<Q, T, F>(self, work: Work<Q, F>, mut request: Q) -> Result<T, Status>
    where
        Q: Documents,
        F: Future<Output = Result<T, Status>>,
    {
        let strike = self.strike(&request.documents());
        strike.before().await?;
        if let Some(staleness) = strike.staleness() {
            request.read_as_of(self.shared.database.ago(staleness).into());
        }
        let answer = work(self.shared.database.clone(), request).await;
        strike.after(&self.connection).await?;
        answer
    }

    /// Processes a call. A write is made whether or not its caller still waits, as on the service:
    /// it may be late, but once it has arrived only the end of the server prevents it.
    async fn answer<Q, T, F>(self, work: Work<Q, F>, request: Q) -> Result<T, Status>
    where
        Q: Documents + Send + 'static,
        T: Send + 'static,
        F: Future<Output = Result<T, Status>> + Send + 'static,
    {
        if !matches!(self.rpc, Rpc::Commit | Rpc::Rollback) {
            return self.perform(work, request).await;
        }
        let stop = self.stop.clone();
        let task = async move { stop.run_until_cancelled(self.perform(work, request)).await };
        let gone = || Status::unavailable("the server is going down");
        tokio::spawn(task).await.ok().flatten().unwrap_or_else(|| Err(gone()))
    }
}

type Work<Q, F> = fn(Arc<Database>, Q) -> F;

/// A method with one answer.
pub(super) struct Unary<Q, F> {
    call: Call,
    work: Work<Q, F>,
}

impl<Q, F> Unary<Q, F> {
    pub(super) fn of(call: Call, work: Work<Q, F>) -> Self {
        Self { call, work }
    }
}

impl<Q, T, F> UnaryService<Q> for Unary<Q, F>
where
    Q: Documents + Send + 'static,
    T: Send + 'static,
    F: Future<Output = Result<T, Status>> + Send + 'static,
{
    type Response = T;
    type Future = BoxFuture<Response<T>, Status>;

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let answer = self.call.clone().answer(self.work, request.into_inner());
        Box::pin(async move { answer.await.map(Response::new) })
    }
}

/// A method with a stream of answers, all of which are ready when the first is sent.
pub(super) struct ServerStreaming<Q, F> {
    call: Call,
    work: Work<Q, F>,
}

impl<Q, F> ServerStreaming<Q, F> {
    pub(super) fn of(call: Call, work: Work<Q, F>) -> Self {
        Self { call, work }
    }
}

impl<Q, T, F> ServerStreamingService<Q> for ServerStreaming<Q, F>
where
    Q: Documents + Send + 'static,
    T: Send + 'static,
    F: Future<Output = Result<Vec<T>, Status>> + Send + 'static,
{
    type Response = T;
    type ResponseStream = tokio_stream::Iter<std::vec::IntoIter<Result<T, Status>>>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let answer = self.call.clone().answer(self.work, request.into_inner());
        Box::pin(async move {
            let answers: Vec<Result<T, Status>> = answer.await?.into_iter().map(Ok).collect();
            Ok(Response::new(tokio_stream::iter(answers)))
        })
    }
}
