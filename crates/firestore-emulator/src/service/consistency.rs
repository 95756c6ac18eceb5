//! Which state a request reads, in one form for all the messages that specify it.

use gcloud_sdk::{
    google::firestore::v1::{
        TransactionOptions, batch_get_documents_request as batch, get_document_request as get,
        list_documents_request as list, run_query_request as query,
    },
    prost_types::Timestamp,
};
use tonic::Status;

use crate::{
    database::{Database, Reading},
    name::DatabaseName,
    time::Time,
    transaction::TransactionId,
};

pub(super) enum Consistency {
    Strong,
    In(Vec<u8>),
    InNew(TransactionOptions),
    At(Timestamp),
}

impl Consistency {
    /// Finds the transaction, or begins it. Also returns a new transaction, so that it can be
    /// reported.
    pub(super) fn resolve(
        self,
        database: &Database,
        name: &DatabaseName,
    ) -> Result<(Reading, Option<TransactionId>), Status> {
        Ok(match self {
            Self::Strong => (Reading::Strong, None),
            Self::In(id) => (Reading::In(TransactionId::parse(&id)?), None),
            Self::InNew(options) => {
                let id = database.begin(name.clone(), Some(options))?;
                (Reading::In(id), Some(id))
            }
            Self::At(time) => (Reading::At(Time::try_from(&time)?), None),
        })
    }
}

impl From<Option<batch::ConsistencySelector>> for Consistency {
    fn from(selector: Option<batch::ConsistencySelector>) -> Self {
        use batch::ConsistencySelector as S;
        match selector {
            None => Self::Strong,
            Some(S::Transaction(id)) => Self::In(id),
            Some(S::NewTransaction(options)) => Self::InNew(options),
            Some(S::ReadTime(time)) => Self::At(time),
        }
    }
}

impl From<Option<query::ConsistencySelector>> for Consistency {
    fn from(selector: Option<query::ConsistencySelector>) -> Self {
        use query::ConsistencySelector as S;
        match selector {
            None => Self::Strong,
            Some(S::Transaction(id)) => Self::In(id),
            Some(S::NewTransaction(options)) => Self::InNew(options),
            Some(S::ReadTime(time)) => Self::At(time),
        }
    }
}

impl From<Option<get::ConsistencySelector>> for Consistency {
    fn from(selector: Option<get::ConsistencySelector>) -> Self {
        use get::ConsistencySelector as S;
        match selector {
            None => Self::Strong,
            Some(S::Transaction(id)) => Self::In(id),
            Some(S::ReadTime(time)) => Self::At(time),
        }
    }
}

impl From<Option<list::ConsistencySelector>> for Consistency {
    fn from(selector: Option<list::ConsistencySelector>) -> Self {
        use list::ConsistencySelector as S;
        match selector {
            None => Self::Strong,
            Some(S::Transaction(id)) => Self::In(id),
            Some(S::ReadTime(time)) => Self::At(time),
        }
    }
}
