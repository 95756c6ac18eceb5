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
    controls::{Controls, Usage},
    pump::{End, Pump},
};

/// Passes on what a client and the server say, until one of them ends or a fault does. Its end
/// closes both connections.
pub(super) async fn exchange(client: TcpStream, upstream: SocketAddr, controls: Arc<Controls>) {
    // An error ends the connection, and that is all the two sides would learn of it anyway.
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
    let usage = Usage::begins();
    let requests =
        Pump::new(Flow::Requests, controls, &usage, &mut to_server).run(&mut from_client);
    let replies = Pump::new(Flow::Replies, controls, &usage, &mut to_client);
    let mut replies = Box::pin(replies.run(&mut from_server));
    let end = tokio::select! {
        end = requests => end?,
        // A server that says no more takes no more.
        end = &mut replies => return end.map(drop),
    };
    match end {
        End::Cut => Ok(()),
        // The server is not notified.
        End::Closed if usage.is_forgotten() => std::future::pending().await,
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

/// Waits until the server has answered all that it was asked, and closes.
///
/// The first bytes of an answer may belong to an earlier request, and closing at once could take
/// from the server what it has not read. So it is told that there is nothing more to come: it does
/// what it was asked and then closes the connection by itself.
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
