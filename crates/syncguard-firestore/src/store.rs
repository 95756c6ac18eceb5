//! What the operations work with.

use std::sync::Arc;

use syncguard_core::UnsafeSettings;

use crate::{
    client::Client, grants::Grants, layout::Layout, nested::Scans, runtimes::PerRuntime,
    waiters::Waiters,
};

/// What the operations work with.
pub(crate) struct Store {
    pub(crate) client: Arc<Client>,
    pub(crate) layout: Layout,
    pub(crate) grants: Grants,
    pub(crate) unsafe_settings: UnsafeSettings,
    pub(crate) scans: PerRuntime<Scans>,
    pub(crate) waiters: PerRuntime<Waiters>,
}
