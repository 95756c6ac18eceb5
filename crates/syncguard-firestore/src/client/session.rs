use std::{
    future::pending,
    sync::{PoisonError, RwLock},
};

use gcloud_sdk::{GoogleAuthMiddleware, google::firestore::v1::firestore_client::FirestoreClient};
use tokio::sync::Mutex;
use tokio_util::task::AbortOnDropHandle;

use super::Settings;
use crate::error::Failure;

pub(super) type Service = FirestoreClient<GoogleAuthMiddleware>;

/// The client in use, from the first call on.
#[derive(Default)]
pub(super) struct Sessions {
    current: RwLock<Option<Session>>,
    /// Held while a session is made, so that only one is.
    making: Mutex<()>,
}

struct Session {
    service: Service,
    /// Ends with the runtime that the connection belongs to.
    runtime: AbortOnDropHandle<()>,
}

impl Sessions {
    /// Gives the client, or a new one where the runtime has ended on which the old one was made: the
    /// tasks behind it are gone, and it would fail for ever.
    pub(super) async fn service(&self, settings: &Settings) -> Result<Service, Failure> {
        if let Some(service) = self.living() {
            return Ok(service);
        }
        let _only_one = self.making.lock().await;
        if let Some(service) = self.living() {
            return Ok(service);
        }
        let service = Service::new(settings.client().await?);
        let runtime = AbortOnDropHandle::new(tokio::spawn(pending()));
        let session = Session { service: service.clone(), runtime };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(session);
        Ok(service)
    }

    fn living(&self) -> Option<Service> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let session = current.as_ref().filter(|session| !session.runtime.is_finished())?;
        Some(session.service.clone())
    }
}
