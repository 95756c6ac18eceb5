//! The methods of the service.

/// A method of Firestore that this server implements. Every other one is answered with
/// UNIMPLEMENTED.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rpc {
    /// Reads documents by name.
    BatchGetDocuments,
    /// Begins a transaction.
    BeginTransaction,
    /// Writes, and ends a transaction.
    Commit,
    /// Reads one document by name.
    GetDocument,
    /// Lists a collection, page by page.
    ListDocuments,
    /// Reports changes.
    Listen,
    /// Ends a transaction without writing.
    Rollback,
    /// Finds documents.
    RunQuery,
}

impl Rpc {
    /// All methods.
    pub const ALL: [Self; 8] = [
        Self::BatchGetDocuments,
        Self::BeginTransaction,
        Self::Commit,
        Self::GetDocument,
        Self::ListDocuments,
        Self::Listen,
        Self::Rollback,
        Self::RunQuery,
    ];

    /// Returns its name in the definition of the service.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BatchGetDocuments => "BatchGetDocuments",
            Self::BeginTransaction => "BeginTransaction",
            Self::Commit => "Commit",
            Self::GetDocument => "GetDocument",
            Self::ListDocuments => "ListDocuments",
            Self::Listen => "Listen",
            Self::Rollback => "Rollback",
            Self::RunQuery => "RunQuery",
        }
    }

    /// Parses the path of a request.
    pub(crate) fn from_path(path: &str) -> Option<Self> {
        let name = path.strip_prefix("/google.firestore.v1.Firestore/")?;
        Self::ALL.into_iter().find(|rpc| rpc.name() == name)
    }
}
