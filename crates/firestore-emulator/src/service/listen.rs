use gcloud_sdk::google::firestore::v1::{ListenRequest, ListenResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, codegen::BoxFuture, server::StreamingService};

use super::call::Call;
use crate::listen::{Targets, Watch};

/// The maximum number of queued messages for a client that reads slowly.
const MAX_QUEUED_MESSAGES: usize = 16;

/// The bidirectional streaming method.
pub(super) struct Listen(pub(super) Call);

impl StreamingService<ListenRequest> for Listen {
    type Response = ListenResponse;
    type ResponseStream = ReceiverStream<Result<ListenResponse, Status>>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, requests: Request<Streaming<ListenRequest>>) -> Self::Future {
        let call = self.0.clone();
        Box::pin(async move {
            let strike = call.strike(&[]);
            strike.before().await?;
            let (sender, receiver) = mpsc::channel(MAX_QUEUED_MESSAGES);
            let watch = Watch::open(call.shared.database.clone());
            let stream = Stream { requests: requests.into_inner(), watch, sender };
            let serve = async move {
                // For this method, the call counts as done once the stream is open.
                tokio::select! {
                    struck = strike.after(&call.connection) => match struck {
                        Ok(()) => stream.serve().await,
                        Err(status) => drop(stream.sender.send(Err(status)).await),
                    },
                    () = stream.sender.closed() => {}
                }
            };
            tokio::spawn(async move { call.stop.run_until_cancelled(serve).await });
            Ok(Response::new(ReceiverStream::new(receiver)))
        })
    }
}

struct Stream {
    requests: Streaming<ListenRequest>,
    watch: Watch,
    sender: mpsc::Sender<Result<ListenResponse, Status>>,
}

impl Stream {
    /// Answers until either side ends.
    async fn serve(mut self) {
        let mut targets = Targets::default();
        loop {
            let messages = tokio::select! {
                request = self.requests.message() => match request {
                    Ok(Some(request)) => targets.request(request, &self.watch),
                    Ok(None) | Err(_) => return,
                },
                Some(change) = self.watch.next() => Ok(targets.report(&change)),
                () = self.sender.closed() => return,
            };
            match messages {
                Ok(messages) => {
                    for message in messages {
                        if self.sender.send(Ok(message)).await.is_err() {
                            return;
                        }
                    }
                }
                Err(status) => return drop(self.sender.send(Err(status)).await),
            }
        }
    }
}
