use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use tokio_util::sync::CancellationToken;

/// The tokens of a scope. Any of them cancels its locks, and the waits for them.
#[derive(Clone, Default)]
pub(crate) struct Scope(Vec<CancellationToken>);

impl Scope {
    /// Adds a token.
    pub(crate) fn with(mut self, token: CancellationToken) -> Self {
        self.0.push(token);
        self
    }

    /// Completes when any of the tokens is cancelled; never completes without a token.
    pub(crate) async fn cancelled(&self) {
        // Most scopes have none or one.
        let Some((first, others)) = self.0.split_first() else {
            return std::future::pending().await;
        };
        let mut first = pin!(first.cancelled());
        let mut others: Vec<_> = others.iter().map(|token| Box::pin(token.cancelled())).collect();
        poll_fn(|context| {
            // Poll all of them, so that each one registers the waker.
            let mut cancelled = first.as_mut().poll(context).is_ready();
            for other in &mut others {
                cancelled |= other.as_mut().poll(context).is_ready();
            }
            if cancelled { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Returns whether any of the tokens is cancelled.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.iter().any(CancellationToken::is_cancelled)
    }

    /// Returns whether the scope has no token, so that nothing can cancel it.
    pub(crate) fn has_no_token(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Waker},
    };

    use tokio_util::sync::CancellationToken;

    use super::Scope;

    #[test]
    fn any_of_its_tokens_cancels_a_scope() {
        assert!(Scope::default().has_no_token());
        for last in 0..3 {
            let tokens = [(); 3].map(|()| CancellationToken::new());
            let scope = tokens.iter().cloned().fold(Scope::default(), Scope::with);
            let (mut cancelled, mut context) =
                (pin!(scope.cancelled()), Context::from_waker(Waker::noop()));
            assert!(cancelled.as_mut().poll(&mut context).is_pending());
            tokens[last].cancel();
            assert!(cancelled.as_mut().poll(&mut context).is_ready());
            assert!(!scope.has_no_token());
        }
    }
}
