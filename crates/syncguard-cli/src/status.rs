//! Shows who holds a lock.

use std::{
    fmt::Write as _,
    io::{self, ErrorKind, Write},
    num::NonZeroU32,
    time::Duration,
};

use serde::Serialize;
use syncguard::{
    Fence, Holder, LockKey, LockManager, Owner, Timestamp,
    backend::{Counters, Grant, LockRecord},
};

use crate::{
    arguments::{OutputFormat, Status},
    display,
    exit::Exit,
    failure::Failure,
    store,
};

/// Prints who holds the lock.
pub(crate) async fn status(arguments: &Status) -> Result<Exit, Failure> {
    let locks = LockManager::new(store::open(&arguments.store, Counters::FromOne).await?);
    let record = locks.lookup_raw(&arguments.key.clone().into()).await?;
    match write(arguments, record.as_ref(), locks.capabilities().grace) {
        // A reader that closed the pipe early wants no more.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::Output(error)),
        Ok(()) | Err(_) => Ok(Exit::SUCCESS),
    }
}

fn write(arguments: &Status, record: Option<&LockRecord>, grace: Duration) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match arguments.format.chosen() {
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
    let age = |acquired_at| display::duration(record.observed_at.since(acquired_at));
    let mut text = format!("{holder}, acquired {} ago", age(record.acquired_at));
    for shared in &record.holders {
        let grant = Grant { fence: shared.fence, expires_at: shared.expires_at };
        let holder = Holder::new(grant, shared.owner.clone(), record.observed_at, grace);
        let _ = write!(text, "\n  {holder}, acquired {} ago", age(shared.acquired_at));
    }
    text
}

/// What `--json` prints. Times are Unix milliseconds on the store's clock.
#[derive(Serialize)]
struct Answer<'a> {
    locked: bool,
    key: &'a LockKey,
    #[serde(flatten)]
    holder: Option<HolderAnswer<'a>>,
}

#[derive(Serialize)]
struct HolderAnswer<'a> {
    mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    permits: Option<NonZeroU32>,
    #[serde(flatten)]
    grant: GrantAnswer<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    holders: Vec<GrantAnswer<'a>>,
}

/// A grant, or the head of several.
#[derive(Serialize)]
struct GrantAnswer<'a> {
    owner: Option<&'a Owner>,
    fence: Fence,
    remaining_ms: u128,
    acquired_at_ms: Timestamp,
    expires_at_ms: Timestamp,
}

impl<'a> Answer<'a> {
    fn new(key: &'a LockKey, record: Option<&'a LockRecord>) -> Self {
        let holder = record.map(|record| HolderAnswer {
            mode: record.mode.as_str(),
            permits: record.mode.permits(),
            grant: GrantAnswer {
                owner: record.owner.as_ref(),
                fence: record.fence,
                remaining_ms: record.remaining().as_millis(),
                acquired_at_ms: record.acquired_at,
                expires_at_ms: record.expires_at,
            },
            holders: record
                .holders
                .iter()
                .map(|holder| GrantAnswer {
                    owner: holder.owner.as_ref(),
                    fence: holder.fence,
                    remaining_ms: holder.expires_at.since(record.observed_at).as_millis(),
                    acquired_at_ms: holder.acquired_at,
                    expires_at_ms: holder.expires_at,
                })
                .collect(),
        });
        Self { locked: record.is_some(), key, holder }
    }
}
