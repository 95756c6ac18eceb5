//! Writes.

use gcloud_sdk::google::firestore::v1::{
    self as api, Document as DocumentMessage, DocumentMask, Precondition,
    precondition::ConditionType, write::Operation,
};

use super::document::{Fields, Version};
use crate::names::DocumentName;

/// One write of a commit.
#[derive(Clone, Debug)]
pub(crate) struct Write(api::Write);

/// The condition on a document for the commit to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    Missing,
    Version(Version),
    Anything,
}

impl Expect {
    /// The document is unchanged since it was read.
    pub(crate) fn unchanged(read: Option<Version>) -> Self {
        read.map_or(Self::Missing, Self::Version)
    }
}

impl Write {
    /// Replaces a document as a whole.
    pub(crate) fn replace(name: &DocumentName, fields: Fields, expect: Expect) -> Self {
        Self::of(Operation::Update(message(name, fields)), expect)
    }

    /// Replaces some fields of a document, and removes those of them that have no value.
    pub(crate) fn merge(
        name: &DocumentName,
        changed: &[&str],
        fields: Fields,
        expect: Expect,
    ) -> Self {
        let mut write = Self::of(Operation::Update(message(name, fields)), expect);
        let field_paths = changed.iter().map(|field| (*field).to_owned()).collect();
        write.0.update_mask = Some(DocumentMask { field_paths });
        write
    }

    /// Changes nothing, so that the version stays, on the condition that it is as expected: what the
    /// other writes of the commit rest on.
    ///
    /// A document that is expected to be missing is created and deleted again. The clients of the
    /// service use a condition on its absence only to create a document.
    pub(crate) fn verify(name: &DocumentName, expect: Expect) -> Vec<Self> {
        match expect {
            Expect::Missing => vec![
                Self::replace(name, Fields::new(), Expect::Missing),
                Self::delete(name, Expect::Anything),
            ],
            expect => vec![Self::merge(name, &[], Fields::new(), expect)],
        }
    }

    pub(crate) fn delete(name: &DocumentName, expect: Expect) -> Self {
        Self::of(Operation::Delete(name.as_str().to_owned()), expect)
    }

    fn of(operation: Operation, expect: Expect) -> Self {
        let condition = match expect {
            Expect::Missing => Some(ConditionType::Exists(false)),
            Expect::Version(version) => Some(ConditionType::UpdateTime(version.into())),
            Expect::Anything => None,
        };
        let current_document =
            condition.map(|condition| Precondition { condition_type: Some(condition) });
        Self(api::Write { current_document, operation: Some(operation), ..api::Write::default() })
    }
}

impl From<Write> for api::Write {
    fn from(write: Write) -> Self {
        write.0
    }
}

fn message(name: &DocumentName, fields: Fields) -> DocumentMessage {
    DocumentMessage { name: name.as_str().to_owned(), fields, ..DocumentMessage::default() }
}
