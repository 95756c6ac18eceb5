//! Which fields an answer contains.

use gcloud_sdk::google::firestore::v1::{Document, DocumentMask};
use tonic::Status;

use crate::field_path::{FieldPath, select};

/// The fields that an answer contains; without a mask, all.
pub(super) struct Mask(Option<Vec<FieldPath>>);

impl Mask {
    pub(super) fn parse(mask: Option<DocumentMask>) -> Result<Self, Status> {
        let paths = mask.map(|mask| FieldPath::parse_all(&mask.field_paths));
        Ok(Self(paths.transpose()?))
    }

    pub(super) fn into_fields(self) -> Option<Vec<FieldPath>> {
        self.0
    }

    pub(super) fn apply(&self, document: &Document) -> Document {
        match &self.0 {
            Some(paths) => Document { fields: select(&document.fields, paths), ..document.clone() },
            None => document.clone(),
        }
    }
}
