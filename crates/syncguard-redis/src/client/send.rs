//! One command for one call or for several.

use std::sync::{Arc, atomic::Ordering};

use fred::{
    error::ErrorKind as DriverKind,
    types::{ClusterHash, Value},
};

use super::{Answer, Core, Script, gather::Call, link::Link, reply::Reply};
use crate::{
    error::{DriverError, Effect, Failure},
    script::BATCH,
};

/// How often a call that was certainly not carried out is sent again at once. The first attempt may
/// meet a lock that has moved to another node, the second one a node that had no connection.
pub(super) const RESENDS: usize = 2;

/// A text of a script, or its hash.
#[derive(Clone, Copy)]
enum Form {
    Hash,
    Body,
}

/// Counts calls as in flight, until it is dropped.
struct Flying<'a> {
    core: &'a Arc<Core>,
    calls: usize,
}

impl<'a> Flying<'a> {
    fn new(core: &'a Arc<Core>, calls: usize) -> Self {
        core.flying.fetch_add(calls, Ordering::Relaxed);
        Self { core, calls }
    }
}

impl Drop for Flying<'_> {
    fn drop(&mut self) {
        self.core.ended(self.calls);
    }
}

/// Sends some calls as one command, and hands out their answers.
pub(super) async fn send(core: Arc<Core>, link: Arc<Link>, mut calls: Vec<Call>) {
    if calls.is_empty() {
        return;
    }
    let flying = Flying::new(&core, calls.len());
    let script = match calls.as_slice() {
        [call] => call.script,
        _ => &*BATCH,
    };
    let mut answer = evaluate(&link, script, Form::Hash, &calls).await;
    if answer.as_ref().is_err_and(|error| error.details().starts_with("NOSCRIPT")) {
        answer = evaluate(&link, script, Form::Body, &calls).await;
    }
    drop(flying);
    match answer {
        Ok((value, replicas)) if calls.len() > 1 => hand_out(calls, Reply::from(value), &replicas),
        Ok((value, replicas)) => {
            if let Some(call) = calls.pop() {
                call.end(Ok(Answer { reply: Reply::from(value), replicas: counted(replicas) }));
            }
        }
        Err(error) => {
            let alone = calls.len() > 1;
            for call in calls {
                refuse(&core, call, Failure::driver(error.clone()), alone);
            }
        }
    }
}

/// Ends a call that came back without an answer, or queues it again where that is safe: nothing was
/// sent, or the server refused a whole batch, perhaps because of another call in it. It decides on that
/// before it runs the script.
fn refuse(core: &Arc<Core>, mut call: Call, failure: Failure, batched: bool) {
    match &failure {
        Failure::NotSent(_) if call.resends < RESENDS => call.resends += 1,
        Failure::Refused(_) if batched && failure.effect() == Effect::None => call.alone = true,
        _ => return call.end(Err(failure)),
    }
    core.submit(call);
}

/// Gives each call of a batch its own part of the answer.
fn hand_out(calls: Vec<Call>, replies: Reply, replicas: &Option<Result<i64, DriverError>>) {
    let mut replies = match replies {
        Reply::List(replies) => replies.into_iter(),
        _ => Vec::new().into_iter(),
    };
    for call in calls {
        let reply = match replies.next() {
            Some(Reply::List(part)) => <[Reply; 2]>::try_from(part).ok(),
            _ => None,
        };
        call.end(match reply {
            Some([Reply::Integer(1), reply]) => {
                Ok(Answer { reply, replicas: counted(replicas.clone()) })
            }
            Some([Reply::Integer(0), Reply::Text(error)]) => {
                Err(Failure::driver(DriverError::new(DriverKind::Unknown, error)))
            }
            _ => Err(Failure::Garbled("a batch")),
        });
    }
}

fn counted(replicas: Option<Result<i64, DriverError>>) -> Option<Result<i64, Failure>> {
    replicas.map(|count| count.map_err(Failure::driver))
}

/// Runs a script, and counts the replicas that have what it wrote, where a call asks for that.
///
/// `WAIT` speaks of the last write of its own connection. It is handed to the driver together with the
/// script, and what comes back counts only if the connection has stayed the same.
async fn evaluate(
    link: &Link,
    script: &'static Script,
    form: Form,
    calls: &[Call],
) -> Result<(Value, Option<Result<i64, DriverError>>), DriverError> {
    let (name, text) = match form {
        Form::Hash => ("EVALSHA", script.hash.as_str()),
        Form::Body => ("EVAL", script.body.as_ref()),
    };
    let mut words = vec![Value::from_static_str(text)];
    match calls {
        [call] => words.extend(call.words.alone()),
        calls => {
            let keys: usize = calls.iter().map(|call| call.words.key_count()).sum();
            words.push(Value::Integer(keys as i64));
            words.extend(calls.iter().flat_map(|call| call.words.keys()));
            words.extend(calls.iter().flat_map(|call| call.words.header_and_arguments()));
        }
    }
    let slot = calls.first().map_or(ClusterHash::FirstKey, |call| call.words.slot());
    let evaluation = link.send(name, slot.clone(), words);
    let Some(replicas) = calls.iter().find_map(|call| call.replicas) else {
        return Ok((evaluation.await?, None));
    };
    let (count, timeout) = (replicas.count.to_string(), replicas.timeout.as_millis().to_string());
    let mut continuity = link.continuity();
    let waiting = link.send("WAIT", slot, super::values(&[&count, &timeout]));
    let (value, acknowledged) = tokio::join!(biased; evaluation, waiting);
    let acknowledged = acknowledged.and_then(|count| {
        match count {
            _ if !continuity.is_unbroken() => {
                Err("the connection changed before the replicas were counted")
            }
            Value::Integer(count) => Ok(count),
            _ => Err("the number of replicas cannot be read"),
        }
        .map_err(|details| DriverError::new(DriverKind::Unknown, details))
    });
    Ok((value?, Some(acknowledged)))
}
