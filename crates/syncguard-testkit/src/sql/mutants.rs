//! Operations on records that no client of ours has written.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::{fmt::Debug, sync::Arc};

use syncguard_core::{
    ErrorKind, LockId, ReleaseOutcome,
    backend::{
        AcquireOutcome, AcquireRequest, ExtendOutcome, ListRequest, LockBackend, LockQuery,
        LockRef, NotHeld,
    },
};

use crate::{
    mutants::each,
    operations::{LONG, ask, error_of, key, ttl},
};

/// The number of records that are tested concurrently.
pub const CONCURRENCY: usize = 8;

/// The columns of a record, and how they are to be read.
pub trait Record: Copy + Debug + Send + Sync + 'static {
    /// Returns whether the record has not expired.
    fn is_live(self) -> bool;

    /// Returns whether the record has the id of its mutant.
    fn is_own(self) -> bool;

    /// Returns the fence, if it can be read.
    fn fence(self) -> Option<u64>;

    /// Returns whether the record can be read as a lock.
    fn is_readable(self) -> bool;

    /// Returns the fence of the next grant, if the key can be granted.
    fn next(self) -> Option<u64>;
}

/// A record under a key of its own.
#[derive(Clone, Debug)]
pub struct Mutant<R> {
    /// The key.
    pub name: String,
    /// An id that no other record has.
    pub id: LockId,
    /// The columns.
    pub columns: R,
}

impl<R: Record> Mutant<R> {
    /// Assigns keys and ids to records, most of which cannot be read. The keys ascend.
    #[must_use]
    pub fn all(columns: Vec<R>) -> Vec<Self> {
        let mutant = |(number, columns)| Self {
            name: format!("key-{number:05}-"),
            id: LockId::mint().unwrap(),
            columns,
        };
        let mutants: Vec<_> = columns.into_iter().enumerate().map(mutant).collect();
        let unreadable = mutants.iter().filter(|mutant| !mutant.columns.is_readable()).count();
        assert!(mutants.len() >= 2_000 && unreadable >= 1_000, "{} {unreadable}", mutants.len());
        mutants
    }

    /// Returns a description of the record.
    #[must_use]
    pub fn context(&self) -> String {
        format!("{} {:?}", self.name, self.columns)
    }

    /// Replaces `NAME` with the key and `ID` with the quoted id, in an expression of SQL.
    #[must_use]
    pub fn fill(&self, value: &str) -> String {
        let id = format!("'{}'", self.id.as_str());
        value.replace("NAME", &self.name).replace("ID", &id)
    }

    /// Returns whether the id of the record holds the key.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.columns.is_live() && self.columns.is_own()
    }

    fn lock(&self) -> LockRef {
        LockRef::new(self.id, key(&self.name))
    }

    fn own_request(&self) -> AcquireRequest {
        AcquireRequest::new(key(&self.name), self.id, ttl(LONG))
    }

    /// Acquires under another id. Either the key is granted, or nothing is changed.
    pub async fn acquire(&self, backend: &impl LockBackend) {
        let (columns, context) = (self.columns, self.context());
        match (columns.next(), backend.acquire(&ask(&self.name, LONG)).await) {
            (Some(next), Ok(AcquireOutcome::Granted(grant))) => {
                assert_eq!(grant.fence.number(), next, "{context}");
            }
            (None, Ok(AcquireOutcome::Contended { .. })) => {
                assert!(columns.is_live() && columns.fence().is_some(), "{context}");
            }
            (None, Err(error)) => {
                assert!(!columns.is_live() || columns.fence().is_none(), "{context}: {error}");
                assert_eq!(error.kind(), ErrorKind::Internal, "{context}: {error}");
                assert!(!error.may_have_applied(), "{context}: {error}");
            }
            (next, outcome) => panic!("{context}: {outcome:?} instead of {next:?}"),
        }
    }

    /// Acquires again under the id of the record.
    async fn acquire_again(&self, backend: &impl LockBackend) {
        let outcome = backend.acquire(&self.own_request()).await;
        match (self.columns.is_live(), self.columns.fence(), outcome) {
            (true, Some(fence), Ok(AcquireOutcome::Granted(grant))) => {
                assert_eq!(grant.fence.number(), fence, "{}", self.context());
            }
            (false, Some(_), Ok(AcquireOutcome::Contended { holder: None })) => {}
            (_, None, Err(error)) => {
                assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
                assert!(error.may_have_applied(), "the id may hold the key: {error}");
            }
            (.., outcome) => panic!("{}: {outcome:?}", self.context()),
        }
    }

    /// Runs the operations that only read.
    async fn read_only(&self, backend: &impl LockBackend) {
        let (columns, context, key) = (self.columns, self.context(), key(&self.name));
        let by_key = backend.lookup(&LockQuery::ByKey(key.clone())).await;
        let by_id = backend.lookup(&LockQuery::ById(self.id)).await;
        let is_locked = backend.is_locked(&key).await;
        let listed = backend.list(&ListRequest::new(&self.name)).await.unwrap().locks;
        assert!(listed.iter().all(|lock| lock.key == key), "{context}");
        assert_eq!(!listed.is_empty(), columns.is_live() && columns.is_readable(), "{context}");
        if !columns.is_live() {
            assert!(!is_locked.unwrap() && by_key.unwrap().is_none(), "{context}");
            assert!(by_id.unwrap().is_none(), "{context}");
        } else if columns.is_readable() {
            assert!(is_locked.unwrap() && by_key.unwrap().is_some(), "{context}");
            assert_eq!(by_id.unwrap().unwrap().key, key, "{context}");
        } else {
            error_of(is_locked, ErrorKind::Internal);
            error_of(by_key, ErrorKind::Internal);
            match by_id {
                Err(error) => assert!(columns.is_own() && error.kind() == ErrorKind::Internal),
                Ok(found) => assert!(found.is_none() && !columns.is_own(), "{context}"),
            }
        }
    }

    /// Extends. This depends only on the id and the expiry, which can be read in any case.
    pub async fn extend(&self, backend: &impl LockBackend) {
        let extended = backend.extend(&self.lock(), ttl(LONG)).await.unwrap();
        let is_extended = matches!(extended, ExtendOutcome::Extended { .. });
        assert_eq!(is_extended, self.is_held(), "{}", self.context());
    }

    /// Releases and abandons by the id, which holds nothing from then on.
    pub async fn release_and_abandon(&self, backend: &impl LockBackend) {
        let (columns, context) = (self.columns, self.context());
        let released = backend.release(&self.lock()).await.unwrap();
        let expected = match self.is_held() {
            true => ReleaseOutcome::Released,
            false => ReleaseOutcome::NotHeld(NotHeld::Unknown),
        };
        assert_eq!(released, expected, "{context}");
        backend.abandon(self.id, &key(&self.name)).await.unwrap();
        assert!(backend.lookup(&LockQuery::ById(self.id)).await.unwrap().is_none(), "{context}");
        match backend.acquire(&self.own_request()).await {
            Ok(AcquireOutcome::Contended { .. }) => {
                assert!(columns.is_live() && !columns.is_own(), "{context}");
            }
            Err(error) => {
                let refused = [ErrorKind::Aborted, ErrorKind::Internal].contains(&error.kind());
                assert!(refused, "{context}: {error}");
            }
            Ok(granted) => panic!("{context}: {granted:?}"),
        }
    }
}

/// Runs the operations that must not change a record on all of `mutants`. Those that `again`
/// chooses are also acquired under their own ids.
pub async fn change_nothing<R: Record>(
    mutants: &Arc<Vec<Mutant<R>>>,
    backend: &(impl LockBackend + Clone),
    again: fn(&Mutant<R>) -> bool,
) {
    let backend = backend.clone();
    each(mutants, CONCURRENCY, move |mutants, number| {
        let backend = backend.clone();
        async move {
            let mutant = &mutants[number];
            if mutant.columns.next().is_none() {
                mutant.acquire(&backend).await;
            }
            if again(mutant) {
                mutant.acquire_again(&backend).await;
            }
            mutant.read_only(&backend).await;
        }
    })
    .await;
}
