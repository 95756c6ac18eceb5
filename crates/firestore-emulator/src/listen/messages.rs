//! The messages of a stream that reports changes.

use gcloud_sdk::google::firestore::v1::{
    Document, DocumentChange, DocumentDelete, ListenResponse, TargetChange,
    listen_response::ResponseType, target_change::TargetChangeType,
};

use crate::{name::DocumentName, store::Stored, time::Time};

/// The targets were added: their documents follow.
pub(super) fn added(targets: &[i32]) -> ListenResponse {
    target(TargetChangeType::Add, targets, None)
}

/// The targets have reported everything as of the time.
pub(super) fn current(targets: &[i32], at: Time) -> ListenResponse {
    target(TargetChangeType::Current, targets, Some(at))
}

pub(super) fn removed(targets: &[i32]) -> ListenResponse {
    target(TargetChangeType::Remove, targets, None)
}

/// All targets of the stream have reported everything as of the time.
pub(super) fn consistent(at: Time) -> ListenResponse {
    target(TargetChangeType::NoChange, &[], Some(at))
}

/// The present version of a document.
pub(super) fn document(
    name: &DocumentName,
    stored: &Stored,
    targets: Vec<i32>,
    at: Time,
) -> ListenResponse {
    response(match stored {
        Some(document) => ResponseType::DocumentChange(DocumentChange {
            document: Some(Document::clone(document)),
            target_ids: targets,
            removed_target_ids: Vec::new(),
        }),
        None => ResponseType::DocumentDelete(DocumentDelete {
            document: name.to_string(),
            removed_target_ids: targets,
            read_time: Some(at.into()),
        }),
    })
}

fn target(change: TargetChangeType, targets: &[i32], at: Option<Time>) -> ListenResponse {
    response(ResponseType::TargetChange(TargetChange {
        target_change_type: change.into(),
        target_ids: targets.to_vec(),
        cause: None,
        resume_token: at.map(Time::to_bytes).unwrap_or_default(),
        read_time: at.map(Into::into),
    }))
}

fn response(response: ResponseType) -> ListenResponse {
    ListenResponse { response_type: Some(response) }
}
