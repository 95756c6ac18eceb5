use std::{future::pending, sync::Arc, time::Duration};

use tonic::{Code, Status};

use super::{Action, armed::Armed};
use crate::connection::ConnectionHandle;

/// The faults that hit one call.
#[derive(Debug)]
pub(crate) struct Strike(Vec<Arc<Armed>>);

impl Strike {
    pub(super) fn of(armed: Vec<Arc<Armed>>) -> Self {
        Self(armed)
    }

    /// Applies what happens before the call is processed.
    pub(crate) async fn before(&self) -> Result<(), Status> {
        for armed in self.0.iter().filter(|armed| !armed.action().happens_after()) {
            armed.hit();
            match armed.action() {
                Action::Delay(duration) => tokio::time::sleep(duration).await,
                Action::Hold => armed.released().await,
                Action::Refuse(code) => return Err(failure(code)),
                // It happens when the documents are read.
                Action::Stale(_) => {}
                Action::Answer(_) | Action::Cut | Action::Silence => {}
            }
        }
        Ok(())
    }

    /// Returns the age of the state that a read returns instead of the latest.
    pub(crate) fn staleness(&self) -> Option<Duration> {
        let stale = self.0.iter().filter_map(|armed| match armed.action() {
            Action::Stale(by) => Some(by),
            _ => None,
        });
        stale.max()
    }

    /// Applies what happens after the call is done, instead of the answer.
    pub(crate) async fn after(&self, connection: &ConnectionHandle) -> Result<(), Status> {
        for armed in self.0.iter().filter(|armed| armed.action().happens_after()) {
            armed.hit();
            match armed.action() {
                Action::Answer(code) => return Err(failure(code)),
                Action::Cut => {
                    connection.cut();
                    pending::<()>().await;
                }
                Action::Silence => pending().await,
                Action::Delay(_) | Action::Hold | Action::Refuse(_) | Action::Stale(_) => {}
            }
        }
        Ok(())
    }
}

fn failure(code: Code) -> Status {
    Status::new(code, "a fault was injected")
}
