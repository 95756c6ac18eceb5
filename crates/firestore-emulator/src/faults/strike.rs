use std::{future::pending, sync::Arc, time::Duration};

use tonic::{Code, Status};

use super::{Deed, armed::Armed};
use crate::connection::Line;

/// The faults that hit one call.
#[derive(Debug)]
pub(crate) struct Strike(Vec<Arc<Armed>>);

impl Strike {
    pub(super) fn of(armed: Vec<Arc<Armed>>) -> Self {
        Self(armed)
    }

    /// Applies what happens before the call is processed.
    pub(crate) async fn before(&self) -> Result<(), Status> {
        for armed in self.0.iter().filter(|armed| !armed.deed().comes_after()) {
            armed.hit();
            match armed.deed() {
                Deed::Delay(duration) => tokio::time::sleep(duration).await,
                Deed::Hold => armed.released().await,
                Deed::Refuse(code) => return Err(failure(code)),
                // It happens when the documents are read.
                Deed::Stale(_) => {}
                Deed::Answer(_) | Deed::Cut | Deed::Silence => {}
            }
        }
        Ok(())
    }

    /// Returns how long ago the state is that a read finds instead of the latest.
    pub(crate) fn staleness(&self) -> Option<Duration> {
        let stale = self.0.iter().filter_map(|armed| match armed.deed() {
            Deed::Stale(by) => Some(by),
            _ => None,
        });
        stale.max()
    }

    /// Applies what happens after the call is done, instead of the answer.
    pub(crate) async fn after(&self, line: &Line) -> Result<(), Status> {
        for armed in self.0.iter().filter(|armed| armed.deed().comes_after()) {
            armed.hit();
            match armed.deed() {
                Deed::Answer(code) => return Err(failure(code)),
                Deed::Cut => {
                    line.cut();
                    pending::<()>().await;
                }
                Deed::Silence => pending().await,
                Deed::Delay(_) | Deed::Hold | Deed::Refuse(_) | Deed::Stale(_) => {}
            }
        }
        Ok(())
    }
}

fn failure(code: Code) -> Status {
    Status::new(code, "a fault was injected")
}
