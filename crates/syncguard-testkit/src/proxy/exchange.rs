use std::{io, net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
};

use super::{
    Flow,
    controls::{Controls, LastUse},
    pump::{End, Pump},
};

/// Forwards data between a client and the server until either side or a fault ends the exchange.
/// Both connections are closed when this returns.
pub(super) async fn exchange(client: TcpStream, upstream: SocketAddr, controls: Arc<Controls>) {
    // An error closes the connections, which is all that the two sides could learn of it.
    let _ = try_exchange(client, upstream, &controls).await;
}

async fn try_exchange(
    mut client: TcpStream,
    upstream: SocketAddr,
    controls: &Controls,
) -> io::Result<()> {
    let mut server = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let last_use = LastUse::now();
    let requests =
        Pump::new(Flow::Requests, controls, &last_use, &mut to_server).run(&mut from_client);
    let replies = Pump::new(Flow::Replies, controls, &last_use, &mut to_client);
    let mut replies = Box::pin(replies.run(&mut from_server));
    let end = tokio::select! {
        end = requests => end?,
        // A server that has closed its side reads no more requests.
        end = &mut replies => return end.map(drop),
    };
    match end {
        End::Cut => Ok(()),
        // The server is not notified.
        End::Closed if last_use.is_forgotten() => std::future::pending().await,
        End::Closed => {
            to_server.shutdown().await?;
            replies.await.map(drop)
        }
        End::CutWhenAnswered => {
            drop(replies);
            drain(to_server, from_server, controls).await
        }
    }
}

/// Waits until the server has answered all requests and has closed the connection.
///
/// The first bytes of a reply may belong to an earlier request, and closing the connection at once
/// could discard requests that the server has not read. Therefore only the sending side is shut
/// down: the server executes the requests and then closes the connection by itself.
async fn drain(
    mut to_server: WriteHalf<'_>,
    mut from_server: ReadHalf<'_>,
    controls: &Controls,
) -> io::Result<()> {
    to_server.shutdown().await?;
    let mut dropped = Vec::new();
    let closed = from_server.read_to_end(&mut dropped).await;
    if !dropped.is_empty() {
        controls.count(|counts| counts.cut_after += 1);
    }
    closed.map(drop)
}
