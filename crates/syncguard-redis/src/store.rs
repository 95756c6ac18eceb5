//! The state that the operations share.

use crate::{client::Client, names::Layout, options::Options, waiters::Waiters};

/// The state that the operations share.
pub(crate) struct Store {
    /// Where the locks are, for error messages.
    pub(crate) server: String,
    pub(crate) client: Client,
    pub(crate) layout: Layout,
    pub(crate) options: Options,
    pub(crate) waiters: Waiters,
}
