//! The driver's stream of changes, behind the few calls that waiting needs.

use gcloud_sdk::{
    google::firestore::v1::{
        ListenRequest, ListenResponse, Target,
        listen_request::TargetChange,
        listen_response::ResponseType,
        target::{DocumentsTarget, TargetType},
        target_change::TargetChangeType,
    },
    tonic::{Request, Streaming},
};
use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    time::timeout,
};
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::{document::Document, session::Service, settings::Settings};
use crate::{error::Failure, names::DocumentName};

/// A stream that listens to any number of documents.
pub(crate) struct Subscription {
    subscriber: Subscriber,
    responses: Streaming<ListenResponse>,
}

/// Adds targets and removes them.
pub(crate) struct Subscriber {
    database: String,
    requests: UnboundedSender<ListenRequest>,
}

/// A notification from a stream.
#[derive(Debug)]
pub(crate) enum Notification {
    /// The initial state of these targets has been reported in full. No target: of all of them.
    Current(Vec<i32>),
    /// The document is gone.
    Deleted(DocumentName),
    /// The document is this from now on.
    Changed(Document),
    /// Something about these targets was missed. No target: about all of them.
    Missed(Vec<i32>),
    /// Nothing of interest.
    Other,
    /// The stream has ended, or is not the one that was requested.
    Ended,
}

impl Subscription {
    /// Opens the stream with its first targets: the service may be silent until there is one.
    pub(super) async fn open(
        mut service: Service,
        settings: &Settings,
        targets: &[(i32, DocumentName)],
    ) -> Result<Self, Failure> {
        let (requests, receiver) = unbounded_channel();
        let subscriber = Subscriber { database: settings.database.clone(), requests };
        for (id, name) in targets {
            subscriber.add(*id, name);
        }
        let request = Request::new(UnboundedReceiverStream::new(receiver));
        // Only opening is bounded: the stream itself is long-lived, and silent while nothing
        // changes.
        let opened = timeout(settings.request_timeout, service.listen(request)).await;
        let opened = opened.map_err(|_| Failure::late())?;
        let responses = opened.map_err(|status| Failure::reading(&status))?.into_inner();
        Ok(Self { subscriber, responses })
    }

    pub(crate) fn subscriber(&self) -> &Subscriber {
        &self.subscriber
    }

    /// Waits for the next notification.
    pub(crate) async fn notification(&mut self) -> Notification {
        let Ok(Some(response)) = self.responses.message().await else {
            return Notification::Ended;
        };
        match response.response_type {
            Some(ResponseType::TargetChange(change)) => match change.target_change_type() {
                TargetChangeType::Current => Notification::Current(change.target_ids),
                TargetChangeType::Reset => Notification::Missed(change.target_ids),
                // Refused, or requested by this client, in which case nothing needs to be done.
                TargetChangeType::Remove if change.cause.is_some() => Notification::Ended,
                _ => Notification::Other,
            },
            Some(ResponseType::DocumentDelete(deleted)) => {
                Notification::Deleted(DocumentName::new(deleted.document))
            }
            Some(ResponseType::DocumentRemove(removed)) => {
                Notification::Deleted(DocumentName::new(removed.document))
            }
            Some(ResponseType::DocumentChange(change)) => {
                change.document.map_or(Notification::Other, |it| Notification::Changed(it.into()))
            }
            Some(ResponseType::Filter(filter)) => Notification::Missed(vec![filter.target_id]),
            _ => Notification::Other,
        }
    }
}

impl Subscriber {
    pub(crate) fn add(&self, id: i32, name: &DocumentName) {
        let documents = vec![name.as_str().to_owned()];
        let target_type = Some(TargetType::Documents(DocumentsTarget { documents }));
        let target = Target { target_id: id, target_type, ..Target::default() };
        self.send(TargetChange::AddTarget(target));
    }

    pub(crate) fn remove(&self, id: i32) {
        self.send(TargetChange::RemoveTarget(id));
    }

    fn send(&self, change: TargetChange) {
        let database = self.database.clone();
        let request =
            ListenRequest { database, target_change: Some(change), ..ListenRequest::default() };
        // A stream that has ended takes no requests; its listener is notified of the end.
        drop(self.requests.send(request));
    }
}
