//! Ends the lock of another holder.

use std::{
    io::{IsTerminal, Write, stderr, stdin},
    slice,
};

use syncguard::{Holder, LockInfo, LockManager, backend::Counters, text::Quoted};

use crate::{
    answer,
    arguments::{Consent, Release},
    exit::Exit,
    failure::Failure,
    opening::{Wait, open},
    record,
    report::{flush, name_keys},
};

/// Ends the lock if the user agrees, and prints what it ended.
pub(crate) async fn release(arguments: &Release) -> Result<Exit, Failure> {
    name_keys(slice::from_ref(&arguments.key));
    if arguments.consent() == Consent::Needed && !(stdin().is_terminal() && stderr().is_terminal())
    {
        return Err(Failure::NoConsent);
    }
    let backend = open(&arguments.store, Counters::FromOne, Wait::none()).await?;
    let locks = LockManager::new(backend);
    if arguments.consent() == Consent::Needed {
        // A record that cannot be read can be released nevertheless.
        let found = match locks.lookup_raw(&arguments.key.clone().into()).await {
            Ok(None) => return answer::print("free"),
            Ok(Some(found)) => record::text(&found, locks.capabilities().grace),
            Err(error) => error.to_string(),
        };
        if !is_agreed(arguments.key.as_str(), &found) {
            answer::print("not ended")?;
            return Ok(Exit::DECLINED);
        }
    }
    match locks.force_release(&arguments.key).await {
        Ok(Some(ended)) => answer::print(&format!("ended: {}", holder(&ended))),
        Ok(None) => answer::print("free"),
        Err(error) if error.has_applied() => answer::print(&format!("ended: {error}")),
        Err(error) => Err(error.into()),
    }
}

/// Asks on the terminal whether to end the lock.
fn is_agreed(key: &str, found: &str) -> bool {
    // The warnings come first.
    flush();
    let _ = write!(stderr(), "{} is {found}\nend this lock? [y/N] ", Quoted(key));
    let mut reply = String::new();
    stdin().read_line(&mut reply).is_ok() && matches!(reply.trim(), "y" | "Y" | "yes")
}

/// Describes who held the lock.
fn holder(ended: &LockInfo) -> Holder {
    let mut holder = Holder::default();
    holder.mode = ended.mode;
    holder.count = ended.mode.is_shared().then_some(ended.holders.len());
    holder.fence = Some(ended.fence);
    holder.owner.clone_from(&ended.owner);
    holder.remaining = Some(ended.remaining);
    holder
}
