//! The connection that listens, which is lent to statements between notifications.

use std::{
    future::{Future, poll_fn},
    mem,
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use sqlx::postgres::PgNotification;
use tokio::sync::Notify;

use crate::{server::OwnConnection, wire::Wire};

/// Where the connection that listens is.
///
/// A client that has no other connection runs its statements on it. The driver keeps notifications
/// that arrive during a statement, and the listener receives them when the connection has been
/// returned. So a statement delays them by its own duration, and loses none.
pub(crate) struct Station {
    place: Mutex<Place>,
    /// Notifies those who want the connection that it was returned, or is gone.
    returned: Notify,
}

struct Place {
    connection: At,
    /// Wakes the listener when the connection was returned, or is gone.
    listener: Waker,
}

enum At {
    Here(OwnConnection),
    Lent,
    /// It broke, or it is in an unknown state.
    Gone,
}

impl Place {
    /// Replaces the mark of a lent connection. Returns what it was to be replaced with if there is
    /// none.
    fn replace_lent(&mut self, with: At) -> Option<At> {
        match self.connection {
            At::Lent => {
                self.connection = with;
                None
            }
            At::Here(_) | At::Gone => Some(with),
        }
    }
}

/// The connection counts as lent until it is given back for the first time.
impl Default for Station {
    fn default() -> Self {
        let place = Place { connection: At::Lent, listener: Waker::noop().clone() };
        Self { place: Mutex::new(place), returned: Notify::new() }
    }
}

impl Station {
    fn lock(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the connection, unless it is lent or gone.
    pub(crate) fn borrow(&self) -> Option<OwnConnection> {
        let connection = &mut self.lock().connection;
        match connection {
            At::Here(_) => match mem::replace(connection, At::Lent) {
                At::Here(connection) => Some(connection),
                At::Lent | At::Gone => None,
            },
            At::Lent | At::Gone => None,
        }
    }

    /// Returns the borrowed connection. It is closed if the listener has ended.
    pub(crate) fn give_back(&self, connection: OwnConnection) {
        let unwanted = self.lock().replace_lent(At::Here(connection));
        drop(unwanted);
        self.notify();
    }

    /// Records that the borrowed connection is gone, unless it was returned.
    pub(crate) fn lose(&self) {
        let _ = self.lock().replace_lent(At::Gone);
        self.notify();
    }

    /// Closes the connection, at the latest when it is returned.
    pub(crate) fn close(&self) {
        let connection = mem::replace(&mut self.lock().connection, At::Gone);
        drop(connection);
        self.notify();
    }

    fn notify(&self) {
        let listener = self.lock().listener.clone();
        listener.wake();
        self.returned.notify_waiters();
    }

    /// Waits until the connection is returned or gone, from this call on.
    pub(crate) fn returned(&self) -> impl Future<Output = ()> + '_ {
        self.returned.notified()
    }

    /// Waits for the connection and takes it, or returns `None` if it is gone.
    pub(crate) async fn take(&self) -> Option<OwnConnection> {
        loop {
            let returned = self.returned();
            if let Some(connection) = self.borrow() {
                return Some(connection);
            }
            if let At::Gone = self.lock().connection {
                return None;
            }
            returned.await;
        }
    }

    /// Waits for a notification. Returns `None` if the connection is gone.
    ///
    /// The connection is polled in its place, so that it can be lent between two polls.
    ///
    /// # Cancel safety
    ///
    /// No notification is lost if the future is dropped: the driver's future is dropped after each
    /// poll, and keeps nothing.
    pub(crate) async fn recv(&self) -> Option<Result<Option<PgNotification>, sqlx::Error>> {
        poll_fn(|context| self.poll_recv(context)).await
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Option<PgNotification>, sqlx::Error>>> {
        let mut place = self.lock();
        place.listener.clone_from(context.waker());
        match &mut place.connection {
            At::Here(OwnConnection { wire: Wire::Listening(ear), .. }) => {
                let received = ready!(pin!(ear.driver().try_recv()).as_mut().poll(context));
                Poll::Ready(Some(received))
            }
            At::Lent => Poll::Pending,
            At::Here(_) | At::Gone => Poll::Ready(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::pin,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering::SeqCst},
        },
        task::{Context, Poll, Wake},
    };

    use super::Station;

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, SeqCst);
        }
    }

    #[test]
    fn the_listener_is_woken_when_the_lent_connection_is_gone_or_returned() {
        let (station, woken) = (Station::default(), Arc::new(Woken::default()));
        let waker = woken.clone().into();
        let mut context = Context::from_waker(&waker);
        let mut receiving = pin!(station.recv());
        assert!(receiving.as_mut().poll(&mut context).is_pending());
        assert!(station.borrow().is_none() && !woken.0.load(SeqCst));
        station.lose();
        assert!(woken.0.load(SeqCst));
        assert!(matches!(receiving.as_mut().poll(&mut context), Poll::Ready(None)));
    }
}
