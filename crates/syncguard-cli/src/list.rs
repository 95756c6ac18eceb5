//! Shows the locks that are held.

use std::{
    io::{IsTerminal, stdout},
    time::Duration,
};

use rustix::termios::tcgetwinsize;
use syncguard::{
    Error, LockManager,
    backend::{Counters, ListRequest, LockRecord},
};
use tokio::time::sleep;

use crate::{
    answer,
    arguments::{List, OutputFormat},
    exit::Exit,
    failure::Failure,
    opening::{Wait, open},
    record, table,
};

/// Moves to the top left corner (ECMA-48, CUP).
const HOME: &str = "\x1b[H";

/// Erases the rest of the line (EL), and the rest of the terminal (ED).
const ERASE_LINE: &str = "\x1b[K";
const ERASE_REST: &str = "\x1b[J";

/// Prints the locks whose keys begin with the prefix.
pub(crate) async fn list(arguments: &List) -> Result<Exit, Failure> {
    let backend = open(&arguments.store, Counters::FromOne, Wait::none()).await?;
    let locks = LockManager::new(backend);
    if let Some(interval) = arguments.watch {
        return watch(&locks, &arguments.prefix, interval).await;
    }
    let found = held(&locks, &arguments.prefix).await?;
    answer::print(&match arguments.format.chosen() {
        OutputFormat::Text => table::of(&found),
        OutputFormat::Json => {
            let lines = found.iter().map(|lock| record::json(&lock.key, Some(lock)) + "\n");
            lines.collect()
        }
    })
}

/// Prints the table again and again. A store that does not answer for a time does not end that.
async fn watch(locks: &LockManager, prefix: &str, interval: Duration) -> Result<Exit, Failure> {
    loop {
        let text = match held(locks, prefix).await {
            Ok(found) => table::of(&found),
            Err(error) if error.is_retryable() => error.to_string() + "\n",
            Err(error) => return Err(error.into()),
        };
        answer::print(&redrawn(&text))?;
        sleep(interval).await;
    }
}

/// Returns all locks whose keys begin with the prefix, in the order of the keys.
async fn held(locks: &LockManager, prefix: &str) -> Result<Vec<LockRecord>, Error> {
    let (mut request, mut found) = (ListRequest::new(prefix), Vec::new());
    loop {
        let page = locks.list(&request).await?;
        found.extend(page.locks);
        let Some(next) = page.next else { break };
        request = request.after(next);
    }
    found.sort_by(|one, other| one.key.as_str().cmp(other.key.as_str()));
    Ok(found)
}

/// Returns `text` as it takes the place of the text before it: on a terminal that of the whole
/// terminal, as far as it fits there, and elsewhere after an empty line.
fn redrawn(text: &str) -> String {
    if !stdout().is_terminal() {
        return format!("{text}\n");
    }
    let rows = tcgetwinsize(stdout()).map_or(0, |size| size.ws_row);
    let rows = if rows == 0 { usize::MAX } else { usize::from(rows) - 1 };
    let lines = text.lines().take(rows).map(|line| format!("{line}{ERASE_LINE}\n"));
    format!("{HOME}{}{ERASE_REST}", lines.collect::<String>())
}
