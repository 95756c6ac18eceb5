//! The state that the operations share.

use std::sync::Arc;

use syncguard_core::{UnsafeSettings, backend::Counters, pool::Pruning};

use crate::{
    client::{Client, Endpoint, Settings},
    clock::{Report, ServerClock},
    grants::Grants,
    names::Layout,
    nested::Scans,
    runtimes::PerRuntime,
    waiters::Waiters,
};

/// The state that the operations share.
pub(crate) struct Store {
    /// Where the locks are, for error messages.
    pub(crate) server: String,
    pub(crate) client: Arc<Client>,
    pub(crate) layout: Layout,
    pub(crate) counters: Counters,
    pub(crate) grants: Grants,
    pub(crate) unsafe_settings: UnsafeSettings,
    pub(crate) pruning: Pruning,
    pub(crate) scans: PerRuntime<Scans>,
    pub(crate) waiters: PerRuntime<Waiters>,
}

impl Store {
    pub(crate) fn new(
        settings: Settings,
        layout: Layout,
        counters: Counters,
        unsafe_settings: UnsafeSettings,
    ) -> Self {
        let report = match unsafe_settings {
            UnsafeSettings::Ignore => Report::Silence,
            UnsafeSettings::Refuse | UnsafeSettings::Warn => Report::Log,
        };
        let server = match &settings.endpoint {
            Endpoint::Emulator(address) => address.clone(),
            Endpoint::Service(_) => settings.database.clone(),
        };
        Self {
            server,
            client: Arc::new(Client::new(settings, ServerClock::new(report))),
            layout,
            counters,
            grants: Grants::default(),
            unsafe_settings,
            pruning: Pruning::default(),
            scans: PerRuntime::default(),
            waiters: PerRuntime::default(),
        }
    }
}
