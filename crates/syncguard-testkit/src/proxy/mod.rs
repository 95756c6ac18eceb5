//! A network that fails on command: a TCP proxy on the loopback interface.
//!
//! It knows no protocol. What one read from a client gives is a *request*, what one read from the
//! server gives is a *reply*. With a client that waits for each reply, those are messages; with one
//! that pipelines, a request may hold several.
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
//! // … a client of `url` asks …
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

const PAUSE: Duration = Duration::from_millis(1);

/// A proxy before one server. Dropped, it closes its port and its connections.
///
/// Faults hold for the connections that are open as well as for new ones, until
/// [`heal`](Self::heal). Where several fit, a cut goes before a limit, and that before a black
/// hole.
#[derive(Debug)]
#[must_use = "a proxy ends with its handle"]
pub struct Proxy {
    address: SocketAddr,
    upstream: SocketAddr,
    controls: Arc<Controls>,
    /// None while connections are refused.
    acceptor: Mutex<Option<JoinHandle<()>>>,
}

impl Proxy {
    /// Listens on a free loopback port, and connects each client to `upstream`.
    ///
    /// # Errors
    ///
    /// Where no port can be listened on.
    pub async fn start(upstream: SocketAddr) -> io::Result<Self> {
        let listener = listen().await?;
        let address = listener.local_addr()?;
        let controls = Arc::new(Controls::new());
        let acceptor = tokio::spawn(accept(listener, upstream, Arc::clone(&controls)));
        Ok(Self { address, upstream, controls, acceptor: Mutex::new(Some(acceptor)) })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where clients connect, on the loopback interface.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Holds every request and every reply back for `delay`, so that a round trip takes twice that
    /// much longer. Their order stays, and they travel side by side.
    pub fn delay(&self, delay: Duration) {
        self.controls.faults().delay = delay;
    }

    /// Forgets a connection that was idle for longer than `limit`, as a NAT or a load balancer
    /// does: what is sent over it afterwards vanishes, its end included, and neither side learns of
    /// it.
    pub fn forget_idle(&self, limit: Duration) {
        self.controls.faults().idle_limit = Some(limit);
    }

    /// Takes what flows that way and passes nothing on; the connections stay open.
    ///
    /// Without its requests a server does nothing. Without its replies it does everything, and
    /// nobody hears of it.
    pub fn black_hole(&self, flow: Flow) {
        self.controls.faults().swallow(flow);
    }

    /// Drops a request that `matches`, and cuts its connection. The server never sees it.
    pub fn cut_before<M>(&self, matches: M, times: Times)
    where
        M: Fn(&[u8]) -> bool + Send + 'static,
    {
        self.controls.faults().cut(Point::Before, matches, times);
    }

    /// Passes a request that `matches` on, takes no more from that client, and cuts its connection
    /// when the server has answered: what was asked is done, and the client does not learn of it.
    ///
    /// Replies to requests that were sent before it on the same connection may be lost with it.
    pub fn cut_after<M>(&self, matches: M, times: Times)
    where
        M: Fn(&[u8]) -> bool + Send + 'static,
    {
        self.controls.faults().cut(Point::After, matches, times);
    }

    /// Lets `bytes` more flow that way, over all connections, and cuts the one that carries the
    /// next byte, once. A message may be torn by it.
    pub fn limit(&self, flow: Flow, bytes: usize) {
        self.controls.faults().limit(flow, bytes);
    }

    /// Cuts all connections, and says how many there were. They are closed when this returns.
    pub async fn cut_all(&self) -> usize {
        self.controls.cut_all().await
    }

    /// Closes the port, so that new connections are refused. Those that are open stay so.
    pub async fn refuse(&self) {
        if let Some(acceptor) = self.acceptor.lock().await.take() {
            acceptor.abort();
            // Its end closes the port.
            let _ = acceptor.await;
        }
    }

    /// Opens the port again.
    ///
    /// # Errors
    ///
    /// Where somebody else has taken it.
    pub async fn admit(&self) -> io::Result<()> {
        let mut acceptor = self.acceptor.lock().await;
        if acceptor.is_none() {
            let listener = TcpListener::bind(self.address).await?;
            let accepting = accept(listener, self.upstream, Arc::clone(&self.controls));
            *acceptor = Some(tokio::spawn(accepting));
        }
        Ok(())
    }

    /// Ends every fault, and admits connections again.
    ///
    /// A connection that lost bytes in a black hole stays as it is: cut it, if that matters.
    ///
    /// # Errors
    ///
    /// As [`admit`](Self::admit).
    pub async fn heal(&self) -> io::Result<()> {
        self.controls.faults().heal();
        self.admit().await
    }

    /// What has passed so far, and which faults happened.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.controls.counts()
    }

    /// Waits until the counts are as described, and gives them.
    pub async fn until(&self, reached: impl FnMut(&Counts) -> bool + Send) -> Counts {
        self.controls.until(reached).await
    }

    /// Counts the messages that flow that way from now on, passed on or not, each connection read
    /// by a scanner of its own.
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
        self.controls.abandon();
    }
}

async fn accept(listener: TcpListener, upstream: SocketAddr, controls: Arc<Controls>) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                controls.connected(exchange(client, upstream, Arc::clone(&controls)));
            }
            // That of a client which has gone already, or of too many files, which takes its time.
            Err(_) => sleep(PAUSE).await,
        }
    }
}

async fn listen() -> io::Result<TcpListener> {
    for port in free_ports() {
        // Taken since: the next one.
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            return Ok(listener);
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}
