use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use tokio_util::sync::CancellationToken;

use super::{
    lease::Lease,
    validity::{End, Loss},
};

/// What ends the locks of a scope, and the waits for them: any of some tokens.
#[derive(Clone, Default)]
pub(crate) struct Scope(Vec<CancellationToken>);

impl Scope {
    /// Adds one more end.
    pub(crate) fn with(mut self, token: CancellationToken) -> Self {
        self.0.push(token);
        self
    }

    /// Resolves when any of the tokens is cancelled, never without one.
    pub(crate) async fn ended(&self) {
        // Most scopes have none or one.
        let Some((first, others)) = self.0.split_first() else {
            return std::future::pending().await;
        };
        let mut first = pin!(first.cancelled());
        let mut others: Vec<_> = others.iter().map(|token| Box::pin(token.cancelled())).collect();
        poll_fn(|context| {
            // All of them, so that each one knows whom to wake.
            let mut ended = first.as_mut().poll(context).is_ready();
            for other in &mut others {
                ended |= other.as_mut().poll(context).is_ready();
            }
            if ended { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Starts the task that ends a lease with the scope, where there is one.
    ///
    /// The lock itself stays with the store until its guard is dropped, or its ttl is over: whoever
    /// works under it may not have noticed yet.
    pub(crate) fn bind(&self, lease: &Lease) {
        if self.0.is_empty() {
            return;
        }
        let (scope, lease) = (self.clone(), lease.clone());
        lease.runtime().clone().spawn(async move {
            tokio::select! {
                () = lease.lost() => {}
                () = scope.ended() => lease.end_with(End::Lost(Loss::Cancelled)),
            }
        });
    }
}
