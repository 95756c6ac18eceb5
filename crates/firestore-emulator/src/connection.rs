//! A connection that can be cut.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

/// A handle of the connection on which a call arrives.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnectionHandle(CancellationToken);

impl ConnectionHandle {
    /// Cuts the connection, with all calls that use it.
    pub(crate) fn cut(&self) {
        self.0.cancel();
    }
}

/// The server's end of a TCP connection. Once it is cut, nothing more is read or written.
pub(crate) struct Connection {
    stream: TcpStream,
    handle: ConnectionHandle,
    reading: Pin<Box<WaitForCancellationFutureOwned>>,
    writing: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Connection {
    /// Wraps a stream that is also cut when `server` ends.
    pub(crate) fn new(stream: TcpStream, server: &CancellationToken) -> Self {
        let cut = server.child_token();
        // Two, because reading and writing wait in different tasks.
        let wait = || Box::pin(cut.clone().cancelled_owned());
        Self { stream, reading: wait(), writing: wait(), handle: ConnectionHandle(cut) }
    }

    fn check_writing(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.writing.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionReset.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = ConnectionHandle;

    fn connect_info(&self) -> ConnectionHandle {
        self.handle.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.reading.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check_writing(context)?;
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_writing(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
