//! The server: the listener on a port, from start to stop.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_stream::StreamExt;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::server::TcpIncoming;

use crate::{
    connection::Connection,
    service::{Firestore, Shared},
};

/// The maximum number of open calls on a connection. The service announces the same number; a
/// client queues calls beyond it.
const MAX_STREAMS: u32 = 100;

/// A running server. When it is dropped, it stops and its connections are cut.
#[derive(Debug)]
pub(crate) struct Server {
    task: JoinHandle<()>,
    stop: DropGuard,
}

impl Server {
    /// Listens on an address, and returns the actual one if the port is zero.
    pub(crate) async fn start(
        address: SocketAddr,
        shared: Arc<Shared>,
    ) -> io::Result<(Self, SocketAddr)> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(listener, shared, stop.clone()));
        Ok((Self { task, stop: stop.drop_guard() }, address))
    }

    /// Stops, and waits until the port is free.
    pub(crate) async fn stop(self) {
        drop(self.stop);
        // It ends without an error, or with the runtime: the port is free either way.
        drop(self.task.await);
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let connection = |stream: io::Result<TcpStream>| Ok(Connection::new(stream?, &stop));
    let incoming = incoming.map(connection).map(|it: io::Result<Connection>| it);
    let service = Firestore::new(shared, stop.clone());
    let server = tonic::transport::Server::builder().max_concurrent_streams(MAX_STREAMS);
    let served = server.serve_with_incoming_shutdown(service, incoming, stop.cancelled());
    // The error of one connection does not concern the server: the server itself does not fail.
    drop(served.await);
}
