//! Shows who holds a lock.

use std::{
    io::{self, ErrorKind, Write},
    time::Duration,
};

use serde::Serialize;
use syncguard::{Fence, LockKey, LockManager, Owner, Timestamp, backend::LockRecord};

use crate::{
    arguments::{OutputFormat, Status},
    display,
    exit::Exit,
    failure::Failure,
    store,
};

/// Prints who holds the lock.
pub(crate) async fn status(arguments: &Status) -> Result<Exit, Failure> {
    let locks = LockManager::new(store::open(&arguments.store).await?);
    let record = locks.lookup_raw(&arguments.key.clone().into()).await?;
    match write(arguments, record.as_ref(), locks.capabilities().grace) {
        // A reader that closed the pipe early wants no more.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::Output(error)),
        Ok(()) | Err(_) => Ok(Exit::SUCCESS),
    }
}

fn write(arguments: &Status, record: Option<&LockRecord>, grace: Duration) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match arguments.format() {
        OutputFormat::Text => writeln!(out, "{}", text(record, grace))?,
        OutputFormat::Json => {
            let answer = serde_json::to_string(&Answer::new(&arguments.key, record))?;
            writeln!(out, "{}", display::json(&answer))?;
        }
    }
    out.flush()
}

fn text(record: Option<&LockRecord>, grace: Duration) -> String {
    let Some(record) = record else {
        return "free".to_owned();
    };
    let holder = record.holder(grace);
    let age = display::duration(record.observed_at.since(record.acquired_at));
    format!("{holder}, acquired {age} ago")
}

/// What `--json` prints. Times are Unix milliseconds on the store's clock.
#[derive(Serialize)]
struct Answer<'a> {
    locked: bool,
    key: &'a LockKey,
    #[serde(flatten)]
    holder: Option<Held<'a>>,
}

#[derive(Serialize)]
struct Held<'a> {
    owner: Option<&'a Owner>,
    fence: Fence,
    remaining_ms: u128,
    acquired_at_ms: Timestamp,
    expires_at_ms: Timestamp,
}

impl<'a> Answer<'a> {
    fn new(key: &'a LockKey, record: Option<&'a LockRecord>) -> Self {
        let holder = record.map(|record| Held {
            owner: record.owner.as_ref(),
            fence: record.fence,
            remaining_ms: record.remaining().as_millis(),
            acquired_at_ms: record.acquired_at,
            expires_at_ms: record.expires_at,
        });
        Self { locked: record.is_some(), key, holder }
    }
}
