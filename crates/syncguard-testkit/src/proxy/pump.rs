use std::{collections::VecDeque, io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, sleep_until},
};

use super::{
    Flow,
    controls::{Controls, LastUse, Scanners},
    faults::Action,
};

const MAX_READ: usize = 64 * 1024;
// A sender that has more reads than this delayed has to wait, as on any network.
const MAX_QUEUED: usize = 1024;

/// How one direction of a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The sender has closed its side.
    Closed,
    /// Cut immediately.
    Cut,
    /// To be cut when the last request was answered.
    CutWhenAnswered,
}

/// One direction of a connection.
pub(super) struct Pump<'a, W> {
    flow: Flow,
    controls: &'a Controls,
    last_use: &'a LastUse,
    to: W,
    queue: VecDeque<(Instant, Vec<u8>)>,
}

impl<'a, W: AsyncWrite + Unpin> Pump<'a, W> {
    pub(super) fn new(flow: Flow, controls: &'a Controls, last_use: &'a LastUse, to: W) -> Self {
        Self { flow, controls, last_use, to, queue: VecDeque::new() }
    }

    /// Forwards the data from `from`, subject to the faults.
    pub(super) async fn run(mut self, mut from: impl AsyncRead + Unpin) -> io::Result<End> {
        let mut scanners = Scanners::default();
        let mut buffer = vec![0; MAX_READ];
        loop {
            let due = self.queue.front().map(|(due, _)| *due);
            tokio::select! {
                read = from.read(&mut buffer), if self.queue.len() < MAX_QUEUED => {
                    let bytes = &buffer[..read?];
                    if bytes.is_empty() {
                        self.flush().await?;
                        return Ok(End::Closed);
                    }
                    self.controls.scan(self.flow, bytes, &mut scanners);
                    if let Some(end) = self.take(bytes).await? {
                        return Ok(end);
                    }
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.pass_first().await?;
                }
            }
        }
    }

    async fn take(&mut self, bytes: &[u8]) -> io::Result<Option<End>> {
        if self.controls.has_forgotten(self.last_use) {
            return Ok(None);
        }
        let (action, delay) = self.controls.decide(self.flow, bytes);
        match action {
            Action::Pass => self.pass(bytes, delay).await?,
            Action::Swallow => {}
            Action::CutBefore => return Ok(Some(End::Cut)),
            Action::CutAfter => {
                self.pass(bytes, delay).await?;
                self.flush().await?;
                return Ok(Some(End::CutWhenAnswered));
            }
            Action::Tear(left) => {
                self.pass(&bytes[..left], delay).await?;
                self.flush().await?;
                return Ok(Some(End::Cut));
            }
        }
        Ok(None)
    }

    async fn pass(&mut self, bytes: &[u8], delay: Duration) -> io::Result<()> {
        if delay.is_zero() && self.queue.is_empty() {
            return self.to.write_all(bytes).await;
        }
        // Not before the data that is queued already, even if the delay was reduced.
        let due = Instant::now() + delay;
        let due = self.queue.back().map_or(due, |(last, _)| due.max(*last));
        self.queue.push_back((due, bytes.to_owned()));
        Ok(())
    }

    async fn pass_first(&mut self) -> io::Result<()> {
        match self.queue.pop_front() {
            Some((_, bytes)) => self.to.write_all(&bytes).await,
            None => Ok(()),
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        while let Some((due, _)) = self.queue.front() {
            sleep_until(*due).await;
            self.pass_first().await?;
        }
        Ok(())
    }
}
