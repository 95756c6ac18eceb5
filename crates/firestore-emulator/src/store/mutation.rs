//! A write, parsed from its message.

use gcloud_sdk::google::firestore::v1::{
    Document, Precondition as ConditionMessage, Write, document_transform::FieldTransform,
    precondition::ConditionType, value::ValueType, write::Operation,
};
use tonic::Status;

use super::{Stored, transform::Transform};
use crate::{
    field_path::{FieldPath, Fields},
    name::{DatabaseName, DocumentName},
    time::Time,
};

/// One write of a commit.
#[derive(Clone, Debug)]
pub(crate) struct Mutation {
    pub(crate) name: DocumentName,
    pub(super) precondition: Precondition,
    pub(super) change: Change,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precondition {
    None,
    Exists,
    Missing,
    UpdatedAt(Time),
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Delete,
    Update { fields: Fields, extent: Extent, transforms: Vec<(FieldPath, Transform)> },
}

/// How much of a document an update replaces.
#[derive(Clone, Debug)]
pub(super) enum Extent {
    Whole,
    /// Only these fields: those that the update lacks are removed.
    Only(Vec<FieldPath>),
}

impl Mutation {
    pub(crate) fn parse(write: Write, database: &DatabaseName) -> Result<Self, Status> {
        let precondition = write.current_document.as_ref().map_or(Ok(Precondition::None), parse)?;
        let (name, change) = match write.operation {
            Some(Operation::Update(document)) => {
                let extent = match write.update_mask {
                    Some(mask) => Extent::Only(FieldPath::parse_all(&mask.field_paths)?),
                    None => Extent::Whole,
                };
                let transforms = parse_transforms(write.update_transforms)?;
                let fields = check_fields(&document)?.clone();
                (document.name, Change::Update { fields, extent, transforms })
            }
            Some(Operation::Delete(name)) => (name, Change::Delete),
            Some(Operation::Transform(transform)) => {
                let transforms = parse_transforms(transform.field_transforms)?;
                let (fields, extent) = (Fields::new(), Extent::Only(Vec::new()));
                (transform.document, Change::Update { fields, extent, transforms })
            }
            None => return Err(Status::invalid_argument("a write has no operation")),
        };
        Ok(Self { name: database.document(&name)?, precondition, change })
    }
}

impl Precondition {
    /// Checks the present version of the document.
    pub(super) fn check(self, name: &DocumentName, document: &Stored) -> Result<(), Status> {
        match (self, document) {
            (Self::None, _) | (Self::Exists, Some(_)) | (Self::Missing, None) => Ok(()),
            (Self::Missing, Some(_)) => {
                Err(Status::already_exists(format!("Document already exists: {name}")))
            }
            (Self::Exists | Self::UpdatedAt(_), None) => {
                Err(Status::not_found(format!("No document to update: {name}")))
            }
            (Self::UpdatedAt(time), Some(document))
                if document.update_time == Some(time.into()) =>
            {
                Ok(())
            }
            (Self::UpdatedAt(_), Some(_)) => Err(Status::failed_precondition(format!(
                "the stored version of {name} does not match the required base version"
            ))),
        }
    }
}

fn parse(message: &ConditionMessage) -> Result<Precondition, Status> {
    Ok(match &message.condition_type {
        None => Precondition::None,
        Some(ConditionType::Exists(true)) => Precondition::Exists,
        Some(ConditionType::Exists(false)) => Precondition::Missing,
        Some(ConditionType::UpdateTime(time)) => Precondition::UpdatedAt(Time::try_from(time)?),
    })
}

fn parse_transforms(
    transforms: Vec<FieldTransform>,
) -> Result<Vec<(FieldPath, Transform)>, Status> {
    let parse = |transform: FieldTransform| {
        let path = FieldPath::parse(&transform.field_path)?;
        Ok((path, Transform::parse(transform.transform_type)?))
    };
    transforms.into_iter().map(parse).collect()
}

/// Refuses reserved field names, and values that no document can hold.
fn check_fields(document: &Document) -> Result<&Fields, Status> {
    let invalid = |name: &str| Status::invalid_argument(format!("the field {name:?} is not valid"));
    for (name, value) in &document.fields {
        let reserved = name.len() >= 4 && name.starts_with("__") && name.ends_with("__");
        let expression = matches!(
            value.value_type,
            None | Some(
                ValueType::FieldReferenceValue(_)
                    | ValueType::VariableReferenceValue(_)
                    | ValueType::FunctionValue(_)
                    | ValueType::PipelineValue(_)
            )
        );
        if name.is_empty() || reserved || expression {
            return Err(invalid(name));
        }
    }
    Ok(&document.fields)
}
