//! Futures that are polled together in one task. There are few of them: each wake-up polls all.

use std::{
    future::{Future, poll_fn},
    task::Poll,
};

/// Completes when all of the futures have completed, and returns their outputs in order.
pub(crate) async fn all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> =
        futures.into_iter().map(|future| (Box::pin(future), None::<F::Output>)).collect();
    poll_fn(|context| {
        let mut completed = true;
        for (future, output) in futures.iter_mut().filter(|(_, output)| output.is_none()) {
            match future.as_mut().poll(context) {
                Poll::Ready(value) => *output = Some(value),
                Poll::Pending => completed = false,
            }
        }
        if completed { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    futures.into_iter().filter_map(|(_, output)| output).collect()
}

/// Completes when one of the futures has completed.
pub(crate) async fn any(futures: impl IntoIterator<Item: Future<Output = ()>>) {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    poll_fn(|context| {
        let completed = futures.iter_mut().any(|future| future.as_mut().poll(context).is_ready());
        if completed { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
