//! Granting.

use syncguard_core::{
    AcquireOutcome, AcquireRequest, BootClock, Clock, Fence, Grant, LockId, Mode, Timestamp, Ttl,
};

use crate::{
    backend::Store,
    client::Reply,
    error::{Effect, Failure},
    layout::{LockName, Shape},
    options::{Counters, Replicas},
    record::{Stored, head, tail},
    release,
    script::{ACQUIRE, reply},
};

/// Grants the key, or says who has it: one round trip.
pub(crate) async fn acquire(
    store: &Store,
    request: &AcquireRequest,
) -> Result<AcquireOutcome, Failure> {
    if request.mode == Mode::Shared {
        return Err(Failure::SharedMode);
    }
    let lock = store.layout.lock(&request.key)?;
    let outcome = ask(store, request, &lock).await?;
    if let AcquireOutcome::Granted(_) = outcome {
        confirm(store, request, &lock).await?;
        remember(store, &lock, request.lock_id, request.ttl).await;
    }
    Ok(outcome)
}

async fn ask(
    store: &Store,
    request: &AcquireRequest,
    lock: &LockName,
) -> Result<AcquireOutcome, Failure> {
    let fence = store.layout.fence(&request.key, lock)?;
    let mark = store.layout.mark(lock, request.lock_id);
    let (head, tail) = (head(request.lock_id), tail(&request.key, request.owner.as_ref()));
    let (ttl, lifetime) = (request.ttl.as_millis().to_string(), lifetime(store, request.ttl));
    let keys = [lock.as_str(), &fence, &mark];
    let arguments = [head.as_str(), &ttl, &lifetime, &tail, "seed"];
    let arguments = match store.options.counters {
        Counters::FromOne => &arguments[..4],
        Counters::FromServerTime => &arguments,
    };
    let sent = BootClock.now();
    let reply = store.client.run(&ACQUIRE, &keys, arguments).await?;
    match reply {
        Reply::Integer(reply::ABANDONED) => Err(Failure::Abandoned),
        Reply::Integer(reply::COUNTER) => Err(Failure::FenceLimit),
        Reply::Integer(reply::UNREADABLE) => Err(Failure::Unreadable("the record of the lock")),
        Reply::List(answer) => match answer.as_slice() {
            [Reply::Integer(fence), Reply::Integer(now)] => {
                let now = Timestamp::from_unix_millis(*now);
                store.drift.observe(now, sent);
                granted(*fence, now.after(request.ttl))
            }
            [Reply::Integer(_), Reply::Text(record)] => {
                Stored::parse(record)?.grant().map(AcquireOutcome::Granted)
            }
            [Reply::Integer(now), Reply::Text(record), kept_for] => {
                let (now, grace) = (Timestamp::from_unix_millis(*now), store.options.grace);
                let kept_for = kept_for.integer().unwrap_or(-1);
                let stored = Stored::parse(record).ok();
                let holder = stored.map(|stored| stored.holder(now, kept_for, grace));
                Ok(AcquireOutcome::Contended { holder })
            }
            _ => Err(Failure::Garbled("an acquire")),
        },
        _ => Err(Failure::Garbled("an acquire")),
    }
}

fn granted(fence: i64, expires_at: Timestamp) -> Result<AcquireOutcome, Failure> {
    let fence = u64::try_from(fence).ok().and_then(|number| Fence::new(number).ok());
    let fence = fence.ok_or(Failure::Garbled("an acquire"))?;
    Ok(AcquireOutcome::Granted(Grant { fence, expires_at }))
}

/// Says for how long a record is stored, in milliseconds: that is what makes the grace real.
pub(crate) fn lifetime(store: &Store, ttl: Ttl) -> String {
    (ttl.as_duration() + store.options.grace).as_millis().to_string()
}

/// Waits for the replicas, where that is asked for, and gives the grant back if there are too few.
async fn confirm(store: &Store, request: &AcquireRequest, lock: &LockName) -> Result<(), Failure> {
    let Some(replicas) = store.options.replicas else {
        return Ok(());
    };
    let acknowledged = replicated(store, lock, replicas).await?;
    if acknowledged >= i64::from(replicas.count) {
        return Ok(());
    }
    // Given back, nothing has happened but a gap in the fences. Otherwise the caller finds out.
    let effect = match release::end(store, lock, request.lock_id).await {
        Ok(_) => Effect::None,
        Err(_) => Effect::Unknown,
    };
    Err(too_few("grant", acknowledged, replicas, effect))
}

pub(crate) fn too_few(
    what: &'static str,
    acknowledged: i64,
    replicas: Replicas,
    effect: Effect,
) -> Failure {
    let wanted = replicas.count;
    Failure::Replicas { what, acknowledged, wanted, effect }
}

/// Counts the replicas that have the last write, which went over the same connection.
pub(crate) async fn replicated(
    store: &Store,
    lock: &LockName,
    replicas: Replicas,
) -> Result<i64, Failure> {
    let (count, timeout) = (replicas.count.to_string(), replicas.timeout.as_millis().to_string());
    let reply = store.client.command_for(lock.as_str(), "WAIT", &[&count, &timeout]).await?;
    reply.integer().ok_or(Failure::Unreadable("the number of replicas"))
}

/// Writes down on a cluster where the id's lock is. The script cannot, since that is in another slot.
///
/// It is only a hint for those who know nothing but the id, so the grant stands without it.
pub(crate) async fn remember(store: &Store, lock: &LockName, id: LockId, ttl: Ttl) {
    if store.layout.shape() == Shape::Plain {
        return;
    }
    let (index, lifetime) = (store.layout.index(id), lifetime(store, ttl));
    let words = [&index, lock.as_str(), "PX", &lifetime];
    if let Err(failure) = store.client.command("SET", &words).await {
        tracing::debug!(%failure, "the index of a lock id could not be written");
    }
}
