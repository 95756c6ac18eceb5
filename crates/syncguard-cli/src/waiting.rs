//! Shows on a terminal what the program waits for.

use std::{
    convert::Infallible,
    future::pending,
    io::{IsTerminal, stderr},
    time::Duration,
};

use rustix::termios::tcgetwinsize;
use syncguard::{Holder, LockKey, LockManager, text::Quoted};
use tokio::time::sleep;

use crate::{
    report::{erase, show},
    verbosity::Verbosity,
};

/// How long the program waits before it shows that it does.
const PATIENCE: Duration = Duration::from_millis(300);

/// How often the line is renewed.
const INTERVAL: Duration = Duration::from_secs(1);

/// The width of a terminal that does not report one.
const WIDTH: u16 = 80;

/// Shows who holds one of `keys` until it is dropped. That erases the line.
pub(crate) async fn show_holder(locks: &LockManager, keys: &[LockKey]) -> Infallible {
    if !stderr().is_terminal() || Verbosity::chosen() == Verbosity::Quiet {
        return pending().await;
    }
    sleep(PATIENCE).await;
    let _line = EraseOnDrop;
    loop {
        if let Some((key, holder)) = holder(locks, keys).await {
            show(format_args!("waiting for {}, {holder}", Quoted(key.as_str())), width());
        }
        sleep(INTERVAL).await;
    }
}

/// Finds the first of `keys` that is held, and its holder.
async fn holder<'a>(locks: &LockManager, keys: &'a [LockKey]) -> Option<(&'a LockKey, Holder)> {
    for key in keys {
        if let Ok(Some(record)) = locks.lookup_raw(&key.clone().into()).await {
            let mut holder = record.holder(locks.capabilities().grace);
            holder.remaining = holder.remaining.map(|left| Duration::from_secs(left.as_secs()));
            return Some((key, holder));
        }
    }
    None
}

/// Returns how many characters fit into a line: in the last column, some terminals break it.
fn width() -> usize {
    let columns = tcgetwinsize(stderr()).map_or(0, |size| size.ws_col);
    usize::from(if columns == 0 { WIDTH } else { columns }) - 1
}

#[derive(Debug)]
struct EraseOnDrop;

impl Drop for EraseOnDrop {
    fn drop(&mut self) {
        erase();
    }
}
