//! One command for one call or for several.

use std::future::Future;

use fred::{
    error::ErrorKind as DriverKind,
    types::{ClusterHash, Value},
};

use super::{
    call::Call,
    link::{Link, MAX_RESENDS},
    reply::{Answer, Reply},
    words::values,
};
use syncguard_core::backend::Effect;

use crate::{
    error::{DriverError, Failure},
    options::Replicas,
    script::{BATCH, Script},
};

/// The maximum number of calls in a batch. Larger batches leave the server idle while the client
/// prepares the next one, and the client idle while the server is at work.
const MAX_BATCH_SIZE: usize = 16;

/// What a script returned, and how many replicas have received its writes, if that was requested.
type Evaluated = (Value, Option<Result<i64, DriverError>>);

/// A text of a script, or its hash.
#[derive(Clone, Copy)]
enum Form {
    Hash,
    Body,
}

/// Runs the script of a call, or the script that runs those of several calls. Sends the body if the
/// server does not know the script.
pub(super) async fn evaluate(link: &Link, calls: &[Call]) -> Result<Evaluated, DriverError> {
    let script = match calls {
        [call] => call.script,
        _ => &*BATCH,
    };
    let evaluated = evaluate_as(link, script, Form::Hash, calls).await;
    if evaluated.as_ref().is_err_and(|error| error.details().starts_with("NOSCRIPT")) {
        // Rare, and boxed so that the future of a call that is answered stays small.
        return Box::pin(evaluate_as(link, script, Form::Body, calls)).await;
    }
    evaluated
}

/// Runs a script, and counts the replicas that have received its writes if a call requests that.
async fn evaluate_as(
    link: &Link,
    script: &'static Script,
    form: Form,
    calls: &[Call],
) -> Result<Evaluated, DriverError> {
    let (name, text) = match form {
        Form::Hash => ("EVALSHA", script.hash.as_str()),
        Form::Body => ("EVAL", script.body.as_ref()),
    };
    let mut words = vec![Value::from_static_str(text)];
    match calls {
        [call] => words.extend(call.words.unbatched()),
        calls => {
            let keys: usize = calls.iter().map(|call| call.words.key_count()).sum();
            words.push(Value::Integer(keys as i64));
            words.extend(calls.iter().flat_map(|call| call.words.keys()));
            words.extend(calls.iter().flat_map(|call| call.words.header_and_arguments()));
        }
    }
    let slot = calls.first().map_or(ClusterHash::FirstKey, |call| call.words.slot());
    let evaluation = link.send(name, slot.clone(), words);
    match calls.iter().find_map(|call| call.replicas) {
        None => Ok((evaluation.await?, None)),
        Some(replicas) => Box::pin(count_replicas(link, evaluation, slot, replicas)).await,
    }
}

/// Completes an evaluation, and counts the replicas that have received its writes.
///
/// `WAIT` refers to the last write of its own connection. It is passed to the driver together with
/// the script, and its result counts only if the connection has not changed.
async fn count_replicas(
    link: &Link,
    evaluation: impl Future<Output = Result<Value, DriverError>> + Send,
    slot: ClusterHash,
    replicas: Replicas,
) -> Result<Evaluated, DriverError> {
    let (count, timeout) = (replicas.count.to_string(), replicas.timeout.as_millis().to_string());
    let mut continuity = link.continuity();
    let waiting = link.send("WAIT", slot, values(&[&count, &timeout]));
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

/// Distributes the answers to calls that were sent together, and returns the calls that must be
/// resent.
pub(super) fn distribute(
    mut calls: Vec<Call>,
    evaluated: Result<Evaluated, DriverError>,
) -> Vec<Call> {
    match evaluated {
        Ok((value, replicas)) if calls.len() > 1 => split(calls, Reply::from(value), &replicas),
        Ok((value, replicas)) => {
            if let Some(call) = calls.pop() {
                call.complete(Ok(Answer {
                    reply: Reply::from(value),
                    replicas: counted(replicas),
                }));
            }
        }
        Err(error) => {
            let batched = calls.len() > 1;
            let failed = |call| fail_or_resend(call, Failure::driver(error.clone()), batched);
            return calls.into_iter().filter_map(failed).collect();
        }
    }
    Vec::new()
}

/// Completes a call that was not answered, or returns it to be resent if that is safe: nothing was
/// sent, or the server refused a whole batch, perhaps because of another call in it. The server
/// decides on that before it runs the script.
fn fail_or_resend(mut call: Call, failure: Failure, batched: bool) -> Option<Call> {
    match &failure {
        Failure::NotSent(_) if call.resends < MAX_RESENDS => call.resends += 1,
        Failure::Refused(_) if batched && failure.effect() == Effect::NotApplied => {
            call.unbatched = true
        }
        _ => {
            call.complete(Err(failure));
            return None;
        }
    }
    Some(call)
}

/// Passes its own part of the answer to each call of a batch.
fn split(calls: Vec<Call>, replies: Reply, replicas: &Option<Result<i64, DriverError>>) {
    let mut replies = match replies {
        Reply::List(replies) => replies.into_iter(),
        _ => Vec::new().into_iter(),
    };
    for call in calls {
        let reply = match replies.next() {
            Some(Reply::List(part)) => <[Reply; 2]>::try_from(part).ok(),
            _ => None,
        };
        call.complete(match reply {
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

/// Divides calls into batches without changing their order.
pub(super) fn batches(calls: Vec<Call>, one_by_one: bool) -> Vec<Vec<Call>> {
    let mut batches: Vec<Vec<Call>> = Vec::new();
    for call in calls {
        match batches.last_mut() {
            Some(batch)
                if batch.len() < MAX_BATCH_SIZE
                    && !one_by_one
                    && !call.unbatched
                    && !batch[0].unbatched =>
            {
                batch.push(call);
            }
            _ => batches.push(vec![call]),
        }
    }
    batches
}
