//! The documents that a stream watches.

use std::collections::{BTreeMap, HashSet};

use gcloud_sdk::google::firestore::v1::{
    ListenRequest, ListenResponse, Target as Message, listen_request::TargetChange,
    target::TargetType,
};
use tonic::Status;

use super::{Watch, messages};
use crate::{
    name::{DatabaseName, DocumentName},
    time::Time,
    watchers::Change,
};

/// The targets of a stream.
///
/// A target that is resumed reports everything again, as a client must expect if its token is too
/// old: it compares the versions.
#[derive(Debug, Default)]
pub(crate) struct Targets(BTreeMap<i32, Target>);

#[derive(Debug)]
struct Target {
    names: HashSet<DocumentName>,
    /// The time as of which it has reported the documents: it reports only later changes.
    since: Time,
}

impl Targets {
    /// Handles a request of the client.
    pub(crate) fn request(
        &mut self,
        request: ListenRequest,
        watch: &Watch,
    ) -> Result<Vec<ListenResponse>, Status> {
        let database = DatabaseName::parse(&request.database)?;
        match request.target_change {
            Some(TargetChange::AddTarget(target)) => self.add(target, &database, watch),
            Some(TargetChange::RemoveTarget(id)) => Ok(self.remove(id, watch)),
            None => Err(Status::invalid_argument("the request changes no target")),
        }
    }

    /// Reports a change to the targets that have not reported it yet.
    pub(crate) fn report(&self, change: &Change) -> Vec<ListenResponse> {
        let mut messages: Vec<ListenResponse> = Vec::new();
        for (name, stored) in &change.documents {
            let concerned = self
                .0
                .iter()
                .filter(|(_, target)| target.names.contains(name) && target.since < change.at);
            let targets: Vec<i32> = concerned.map(|(id, _)| *id).collect();
            if !targets.is_empty() {
                messages.push(messages::document(name, stored, targets, change.at));
            }
        }
        if !messages.is_empty() {
            messages.push(messages::consistent(change.at));
        }
        messages
    }

    fn add(
        &mut self,
        message: Message,
        database: &DatabaseName,
        watch: &Watch,
    ) -> Result<Vec<ListenResponse>, Status> {
        let Some(TargetType::Documents(documents)) = message.target_type else {
            return Err(Status::unimplemented("only documents are listened to here, not queries"));
        };
        let id = self.free_id(message.target_id)?;
        let names = documents.documents.iter().map(|name| database.document(name));
        let names: HashSet<DocumentName> = names.collect::<Result<_, _>>()?;
        let mut messages = vec![messages::added(&[id])];
        let mut since = Time::START;
        for name in &names {
            let (stored, at) = watch.add(name);
            messages.push(messages::document(name, &stored, vec![id], at));
            since = since.max(at);
        }
        messages.extend([messages::current(&[id], since), messages::consistent(since)]);
        self.0.insert(id, Target { names, since });
        if message.once {
            messages.extend(self.remove(id, watch));
        }
        Ok(messages)
    }

    fn remove(&mut self, id: i32, watch: &Watch) -> Vec<ListenResponse> {
        if self.0.remove(&id).is_none() {
            return Vec::new();
        }
        watch.retain_only(self.0.values().flat_map(|target| target.names.clone()).collect());
        vec![messages::removed(&[id])]
    }

    /// Uses the id that the client requests, or chooses one if it requests none.
    fn free_id(&self, wanted: i32) -> Result<i32, Status> {
        match wanted {
            0 => Ok(self.0.last_key_value().map_or(1, |(last, _)| last + 1)),
            1.. if !self.0.contains_key(&wanted) => Ok(wanted),
            _ => Err(Status::invalid_argument("the target id is negative or in use")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use gcloud_sdk::google::firestore::v1::{
        Document, Write, listen_response::ResponseType, target::DocumentsTarget, write::Operation,
    };

    use super::*;
    use crate::{database::Database, emulator::Builder, store::Mutation};

    const DATABASE: &str = "projects/p/databases/(default)";

    fn add(target_id: i32) -> ListenRequest {
        let documents = vec![format!("{DATABASE}/documents/c/a")];
        let target_type = Some(TargetType::Documents(DocumentsTarget { documents }));
        let target = Message { target_id, target_type, ..Message::default() };
        let target_change = Some(TargetChange::AddTarget(target));
        ListenRequest { database: DATABASE.into(), target_change, ..ListenRequest::default() }
    }

    /// Returns the targets of each document change among the messages.
    fn reported_targets(messages: Vec<ListenResponse>) -> Vec<Vec<i32>> {
        let changes = messages.into_iter().filter_map(|message| match message.response_type {
            Some(ResponseType::DocumentChange(change)) => Some(change.target_ids),
            _ => None,
        });
        changes.collect()
    }

    #[tokio::test]
    async fn a_target_that_is_added_after_a_change_does_not_report_it_again() {
        let database = Arc::new(Database::new(Builder::default().settings()));
        let mut watch = Watch::open(database.clone());
        let mut targets = Targets::default();
        targets.request(add(1), &watch).unwrap();
        let name = DatabaseName::parse(DATABASE).unwrap();
        let document = format!("{DATABASE}/documents/c/a");
        let document = Document { name: document, ..Document::default() };
        let operation = Some(Operation::Update(document));
        let write = Mutation::parse(Write { operation, ..Write::default() }, &name).unwrap();
        database.commit(&name, None, &[write]).await.unwrap();
        assert_eq!(reported_targets(targets.request(add(2), &watch).unwrap()), [[2]]);
        let change = watch.next().await.unwrap();
        assert_eq!(reported_targets(targets.report(&change)), [[1]]);
    }
}
