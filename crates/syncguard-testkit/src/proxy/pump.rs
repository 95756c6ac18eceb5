use std::{collections::VecDeque, io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, sleep_until},
};

use super::{
    Flow,
    controls::{Controls, Scanners, Usage},
    faults::Verdict,
};

const LARGEST_READ: usize = 64 * 1024;
// Whoever sends more than this into a delay has to wait, as with any network.
const MOST_WAITING: usize = 1024;

/// How one direction of a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The sender has nothing more to say.
    Closed,
    /// Cut at once.
    Cut,
    /// To be cut when the last request was answered.
    CutWhenAnswered,
}

/// One direction of a connection.
pub(super) struct Pump<'a, W> {
    flow: Flow,
    controls: &'a Controls,
    usage: &'a Usage,
    to: W,
    waiting: VecDeque<(Instant, Vec<u8>)>,
}

impl<'a, W: AsyncWrite + Unpin> Pump<'a, W> {
    pub(super) fn new(flow: Flow, controls: &'a Controls, usage: &'a Usage, to: W) -> Self {
        Self { flow, controls, usage, to, waiting: VecDeque::new() }
    }

    /// Passes on what comes from `from`, as the faults have it.
    pub(super) async fn run(mut self, mut from: impl AsyncRead + Unpin) -> io::Result<End> {
        let mut scanners = Scanners::default();
        let mut buffer = vec![0; LARGEST_READ];
        loop {
            let due = self.waiting.front().map(|(due, _)| *due);
            tokio::select! {
                read = from.read(&mut buffer), if self.waiting.len() < MOST_WAITING => {
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
        if self.controls.has_forgotten(self.usage) {
            return Ok(None);
        }
        let (verdict, delay) = self.controls.judge(self.flow, bytes);
        match verdict {
            Verdict::Pass => self.pass(bytes, delay).await?,
            Verdict::Swallow => {}
            Verdict::CutBefore => return Ok(Some(End::Cut)),
            Verdict::CutAfter => {
                self.pass(bytes, delay).await?;
                self.flush().await?;
                return Ok(Some(End::CutWhenAnswered));
            }
            Verdict::Tear(left) => {
                self.pass(&bytes[..left], delay).await?;
                self.flush().await?;
                return Ok(Some(End::Cut));
            }
        }
        Ok(None)
    }

    async fn pass(&mut self, bytes: &[u8], delay: Duration) -> io::Result<()> {
        if delay.is_zero() && self.waiting.is_empty() {
            return self.to.write_all(bytes).await;
        }
        // Never before what is waiting already, when the delay was made shorter.
        let due = Instant::now() + delay;
        let due = self.waiting.back().map_or(due, |(last, _)| due.max(*last));
        self.waiting.push_back((due, bytes.to_owned()));
        Ok(())
    }

    async fn pass_first(&mut self) -> io::Result<()> {
        match self.waiting.pop_front() {
            Some((_, bytes)) => self.to.write_all(&bytes).await,
            None => Ok(()),
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        while let Some((due, _)) = self.waiting.front() {
            sleep_until(*due).await;
            self.pass_first().await?;
        }
        Ok(())
    }
}
