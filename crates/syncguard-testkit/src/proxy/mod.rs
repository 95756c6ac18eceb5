//! A network that fails on command: a TCP proxy on the loopback interface.
//!
//! The proxy knows no protocol. The data of one read from a client is a *request*, the data of one
//! read from the server is a *reply*. If the client waits for each reply, those are messages; if it
//! pipelines, a request may contain several messages.
//!
//! # Examples
//!
//! ```no_run
//! use syncguard_testkit::{
//!     proxy::{Proxy, Times, containing},
//!     server::RedisServer,
//! };
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let redis = RedisServer::start().await?;
//! let proxy = Proxy::start(redis.address()).await?;
//! let url = redis.url_through(proxy.address());
//! proxy.cut_after(containing("EVALSHA"), Times::Next(1));
//! // … a client of `url` sends a request …
//! proxy.until(|counts| counts.cut_after == 1).await;
//! # Ok(())
//! # }
//! ```

mod controls;
mod counts;
mod exchange;
mod faults;
mod messages;
mod pump;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{net::TcpListener, sync::Mutex, task::JoinHandle, time::sleep};

use self::{controls::Controls, exchange::exchange, faults::Point};
pub use self::{
    counts::Counts,
    faults::{Flow, Times},
    messages::{Occurrences, RespArrays, Scan, Tally, containing},
};
use crate::server::free_ports;

const ACCEPT_RETRY_INTERVAL: Duration = Duration::from_millis(1);

/// A proxy in front of one server. Dropping it closes its port and its connections.
///
/// Faults apply to open and to new connections, until [`heal`](Self::heal). If several apply, a cut
/// takes precedence over a limit, and a limit over a black hole.
#[derive(Debug)]
#[must_use = "a proxy ends with its handle"]
pub struct Proxy {
    address: SocketAddr,
    upstream: SocketAddr,
    controls: Arc<Controls>,
    /// `None` while connections are refused.
    acceptor: Mutex<Option<JoinHandle<()>>>,
}

impl Proxy {
    /// Listens on a free loopback port, and connects each client to `upstream`.
    ///
    /// # Errors
    ///
    /// If it cannot listen on any port.
    pub async fn start(upstream: SocketAddr) -> io::Result<Self> {
        let listener = listen().await?;
        let address = listener.local_addr()?;
        let controls = Arc::new(Controls::new());
        let acceptor = tokio::spawn(accept(listener, upstream, Arc::clone(&controls)));
        Ok(Self { address, upstream, controls, acceptor: Mutex::new(Some(acceptor)) })
    }

    /// Returns the address for clients.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the port for clients, on the loopback interface.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Delays every request and every reply by `delay`, so that a round trip takes twice that much
    /// longer. Their order is preserved, and delays of consecutive messages overlap.
    pub fn delay(&self, delay: Duration) {
        self.controls.faults().delay = delay;
    }

    /// Forgets a connection that was idle for longer than `limit`, as a NAT or a load balancer
    /// does: everything sent over it afterwards is dropped, including its close, and neither side
    /// is notified.
    pub fn forget_idle(&self, limit: Duration) {
        self.controls.faults().idle_limit = Some(limit);
    }

    /// Reads the data that flows in this direction and drops it; the connections stay open.
    ///
    /// Without requests, the server executes nothing. Without replies, it executes everything, and
    /// the clients are not notified.
    pub fn black_hole(&self, flow: Flow) {
        self.controls.faults().swallow(flow);
    }

    /// Drops a request that `matches`, and cuts its connection. The server never receives it.
    pub fn cut_before<M>(&self, matches: M, times: Times)
    where
        M: Fn(&[u8]) -> bool + Send + 'static,
    {
        self.controls.faults().cut(Point::Before, matches, times);
    }

    /// Passes a request that `matches`, reads no more from its client, and cuts the connection when
    /// the server has answered: the request is executed, and the client does not receive the reply.
    ///
    /// Replies to earlier requests on the same connection may be lost too.
    pub fn cut_after<M>(&self, matches: M, times: Times)
    where
        M: Fn(&[u8]) -> bool + Send + 'static,
    {
        self.controls.faults().cut(Point::After, matches, times);
    }

    /// Passes `bytes` more bytes in this direction, over all connections, and then cuts the
    /// connection that carries the next byte, once. This may tear a message.
    pub fn limit(&self, flow: Flow, bytes: usize) {
        self.controls.faults().limit(flow, bytes);
    }

    /// Cuts all connections, and returns how many there were. They are closed when this returns.
    pub async fn cut_all(&self) -> usize {
        self.controls.cut_all().await
    }

    /// Closes the port, so that new connections are refused. Open connections are not affected.
    pub async fn refuse(&self) {
        if let Some(acceptor) = self.acceptor.lock().await.take() {
            acceptor.abort();
            // The port is closed when the task has ended.
            let _ = acceptor.await;
        }
    }

    /// Opens the port again.
    ///
    /// # Errors
    ///
    /// If another process listens on the port.
    pub async fn admit(&self) -> io::Result<()> {
        let mut acceptor = self.acceptor.lock().await;
        if acceptor.is_none() {
            let listener = TcpListener::bind(self.address).await?;
            let accepting = accept(listener, self.upstream, Arc::clone(&self.controls));
            *acceptor = Some(tokio::spawn(accepting));
        }
        Ok(())
    }

    /// Ends all faults, and admits connections again.
    ///
    /// A connection that lost bytes in a black hole is not repaired: cut it if that matters.
    ///
    /// # Errors
    ///
    /// As [`admit`](Self::admit).
    pub async fn heal(&self) -> io::Result<()> {
        self.controls.faults().heal();
        self.admit().await
    }

    /// Returns the traffic so far, and the faults that have happened.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.controls.counts()
    }

    /// Waits until the counts satisfy `reached`, and returns them.
    pub async fn until(&self, reached: impl FnMut(&Counts) -> bool + Send) -> Counts {
        self.controls.until(reached).await
    }

    /// Counts the messages in this direction from now on, whether or not they are passed. Each
    /// connection has its own scanner.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use syncguard_testkit::proxy::{Flow, Occurrences, Proxy, RespArrays};
    /// # fn example(proxy: &Proxy) {
    /// let scripts = proxy.tally(Flow::Requests, || Occurrences::of("EVALSHA"));
    /// let commands = proxy.tally(Flow::Requests, RespArrays::default);
    /// // …
    /// assert_eq!((scripts.total(), commands.total()), (1, 1));
    /// # }
    /// ```
    #[must_use]
    pub fn tally<S: Scan>(
        &self,
        flow: Flow,
        scanner: impl Fn() -> S + Send + Sync + 'static,
    ) -> Tally {
        self.controls.add_tally(flow, scanner)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(acceptor) = self.acceptor.get_mut().take() {
            acceptor.abort();
        }
        self.controls.abort_all();
    }
}

async fn accept(listener: TcpListener, upstream: SocketAddr, controls: Arc<Controls>) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                controls.spawn(exchange(client, upstream, Arc::clone(&controls)));
            }
            // The client has disconnected already, or there are too many open files, which may
            // last.
            Err(_) => sleep(ACCEPT_RETRY_INTERVAL).await,
        }
    }
}

async fn listen() -> io::Result<TcpListener> {
    for port in free_ports() {
        // A port may have been taken since it was found free.
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            return Ok(listener);
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}
