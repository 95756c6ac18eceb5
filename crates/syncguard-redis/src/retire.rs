//! Retiring fence counters.

use fred::types::config::Server;
use syncguard_core::backend::{PageToken, RetirePage, RetireRequest};

use crate::{
    client::Reply,
    error::Failure,
    names::{LockName, Shape},
    script::RETIRE,
    store::Store,
};

/// How many counters a script examines. Meanwhile the server serves no other client.
const SCRIPT_BATCH_SIZE: usize = 100;

/// Retires some counters: one step of a scan through the names of all nodes, and the scripts that
/// decide on the counters among them.
///
/// The page token is the node and the cursor of its scan. A counter that is there during the whole
/// scan is examined, unless its cluster slot moves to another node meanwhile.
pub(crate) async fn retire_counters(
    store: &Store,
    request: &RetireRequest,
) -> Result<RetirePage, Failure> {
    let mut nodes = store.client.nodes().await?;
    nodes.sort_by_key(name);
    let after = request.after.as_ref().and_then(|token| token.as_str().rsplit_once(' '));
    let (at, cursor) = after.unwrap_or(("", "0"));
    // The node may be gone. Then the scan continues with the one after it.
    let Some(place) = nodes.iter().position(|node| name(node).as_str() >= at) else {
        return Ok(RetirePage::default());
    };
    let node = &nodes[place];
    let cursor = if name(node) == at { cursor } else { "0" };
    let (pattern, count) = (store.layout.counter_pattern(), request.limit.to_string());
    let scanning = [cursor, "MATCH", &pattern, "COUNT", &count];
    let reply = store.client.at(node.as_ref(), "SCAN", &scanning).await?;
    let [Reply::Text(cursor), found] = reply.list() else {
        return Err(Failure::Garbled("a scan"));
    };
    let found = found.list().iter().filter_map(Reply::text);
    let counter = |name: &str| Some((store.layout.lock_of_counter(name)?, name.to_owned()));
    let retired =
        retire_all(store, request, &found.filter_map(counter).collect::<Vec<_>>()).await?;
    let next = match (cursor.as_str(), nodes.get(place + 1)) {
        ("0", None) => None,
        ("0", Some(next)) => Some(format!("{} 0", name(next))),
        (cursor, _) => Some(format!("{} {cursor}", name(node))),
    };
    Ok(RetirePage { retired, next: next.map(PageToken::new) })
}

fn name(node: &Option<Server>) -> String {
    node.as_ref().map_or_else(String::new, ToString::to_string)
}

async fn retire_all(
    store: &Store,
    request: &RetireRequest,
    counters: &[(LockName, String)],
) -> Result<u64, Failure> {
    // In a cluster, each lock has a slot of its own.
    let together = match store.layout.shape() {
        Shape::Plain => SCRIPT_BATCH_SIZE,
        Shape::Tagged => 1,
    };
    let (lowest, unused_for) =
        (RetireRequest::MIN_FENCE.to_string(), request.unused_for_millis().to_string());
    let mut retired = 0;
    for counters in counters.chunks(together) {
        let keys = counters.iter().flat_map(|(lock, counter)| [lock.as_str(), counter]);
        let keys: Vec<_> = keys.collect();
        match store.client.run(&RETIRE, &keys, &[&lowest, &unused_for]).await {
            Ok(reply) => {
                let count = reply.integer().and_then(|count| u64::try_from(count).ok());
                retired += count.ok_or(Failure::Garbled("a retirement"))?;
            }
            // The slot is being moved. A later run finds the counter on the other node.
            Err(failure) if failure.is_for_missing_keys() => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(retired)
}
