//! What the operations work with.

use crate::{client::Client, names::Layout, options::Options, waiters::Waiters};

/// What the operations work with.
pub(crate) struct Store {
    pub(crate) client: Client,
    pub(crate) layout: Layout,
    pub(crate) options: Options,
    pub(crate) waiters: Waiters,
}
