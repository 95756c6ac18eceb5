//! The methods of the service. Each is in the file of its name.

mod batch_get_documents;
mod begin_transaction;
mod call;
mod commit;
mod consistency;
mod documents;
mod get_document;
mod list_documents;
mod listen;
mod mask;
mod rollback;
mod run_query;
mod shared;

use std::{convert::Infallible, sync::Arc, task};

use tokio_util::sync::CancellationToken;
use tonic::{
    Status,
    body::Body,
    codegen::{BoxFuture, Service, http},
    server::Grpc,
};
use tonic_prost::ProstCodec;

pub(crate) use shared::Shared;

use crate::{connection::ConnectionHandle, rpc::Rpc};
use call::{Call, ServerStreaming, Unary};

/// The largest message that the service accepts, in bytes: 10 MiB.
const MAX_REQUEST: usize = 10 * 1_024 * 1_024;

/// Dispatches requests by path.
#[derive(Clone, Debug)]
pub(crate) struct Firestore {
    shared: Arc<Shared>,
    stop: CancellationToken,
}

impl Firestore {
    pub(crate) fn new(shared: Arc<Shared>, stop: CancellationToken) -> Self {
        Self { shared, stop }
    }

    async fn answer(self, request: http::Request<Body>) -> http::Response<Body> {
        let Some(rpc) = Rpc::from_path(request.uri().path()) else {
            let path = request.uri().path();
            return Status::unimplemented(format!("{path} is not emulated")).into_http();
        };
        self.shared.calls.count(rpc);
        let connection =
            request.extensions().get::<ConnectionHandle>().cloned().unwrap_or_default();
        let call = Call { rpc, shared: self.shared, connection, stop: self.stop };
        match rpc {
            Rpc::BatchGetDocuments => {
                grpc()
                    .server_streaming(
                        ServerStreaming::of(call, batch_get_documents::answer),
                        request,
                    )
                    .await
            }
            Rpc::BeginTransaction => {
                grpc().unary(Unary::of(call, begin_transaction::answer), request).await
            }
            Rpc::Commit => grpc().unary(Unary::of(call, commit::answer), request).await,
            Rpc::GetDocument => grpc().unary(Unary::of(call, get_document::answer), request).await,
            Rpc::ListDocuments => {
                grpc().unary(Unary::of(call, list_documents::answer), request).await
            }
            Rpc::Listen => grpc().streaming(listen::Listen(call), request).await,
            Rpc::Rollback => grpc().unary(Unary::of(call, rollback::answer), request).await,
            Rpc::RunQuery => {
                grpc().server_streaming(ServerStreaming::of(call, run_query::answer), request).await
            }
        }
    }
}

impl Service<http::Request<Body>> for Firestore {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> task::Poll<Result<(), Infallible>> {
        task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let firestore = self.clone();
        Box::pin(async move { Ok(firestore.answer(request).await) })
    }
}

fn grpc<R, Q>() -> Grpc<ProstCodec<R, Q>>
where
    R: gcloud_sdk::prost::Message + Send + 'static,
    Q: gcloud_sdk::prost::Message + Default + Send + 'static,
{
    Grpc::new(ProstCodec::default()).max_decoding_message_size(MAX_REQUEST)
}
