//! Spans and events of locks: they are as documented, and contain no key and no id in clear.

use std::collections::{BTreeMap, BTreeSet};

use syncguard_core::{
    ErrorKind, Fence, LockId, LockManager, Operation, Renew,
    backend::LockBackend,
    contract::{Fault, Gate},
};
use syncguard_testkit::traced::{Trace, Traced};
use tokio::time::{sleep, timeout};
use tracing::Level;

use super::{World, drained, error_of, key, time::secs};

/// The documentation of the spans and events.
const DOCUMENTATION: &str = include_str!("../../../syncguard-core/TELEMETRY.md");

const KEY: &str = "patient:jane-doe";

/// Returns the rows of the table whose first column has this name, cell by cell.
fn table(first_column: &str) -> Vec<Vec<&'static str>> {
    let head = format!("| {first_column} |");
    let lines = DOCUMENTATION.lines().skip_while(|line| !line.starts_with(&head)).skip(2);
    let rows = lines.take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// Returns the texts in backticks.
fn names(cell: &'static str) -> Vec<&'static str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// Returns the documented fields of each span, and under "events" those of events.
fn documented() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let spans: Vec<_> = table("Span").iter().flat_map(|row| names(row[0])).collect();
    let mut fields = BTreeMap::<_, BTreeSet<_>>::new();
    for row in table("Field") {
        let (field, named) = (names(row[0])[0], names(row[1]));
        let listed = |span: &&&str| match row[1].starts_with("all") {
            true => !named.contains(span),
            false => named.contains(span),
        };
        let events = ["events"].into_iter().filter(|_| row[1].ends_with("events"));
        for span in spans.iter().filter(listed).copied().chain(events) {
            fields.entry(span).or_default().insert(field);
        }
    }
    fields
}

async fn run_that_is_renewed(locks: &LockManager, world: &World) {
    world.plan(Operation::Extend, &Fault::NotSent, 1);
    locks.lock(KEY).run(async |_| sleep(secs(15)).await).await.unwrap();
    world.assert_planned(0);
}

async fn run_that_is_lost(locks: &LockManager, world: &World) {
    let run = locks.lock(KEY).run(async |_| {
        world.others.force_release(&key(KEY)).await.unwrap().unwrap();
        sleep(secs(15)).await;
    });
    error_of(run.await, ErrorKind::Lost);
}

async fn wait_until_the_timeout(locks: &LockManager, world: &World) {
    let other = world.hold_elsewhere(KEY, secs(60)).await;
    error_of(locks.lock(KEY).wait(secs(1)).acquire().await, ErrorKind::AcquisitionTimeout);
    let _ = locks.lock(KEY).try_run(async |_| ()).await.unwrap();
    world.release_elsewhere(&other).await;
    let _reader = locks.lock(KEY).shared().acquire().await.unwrap();
    error_of(locks.semaphore(KEY, 2).try_acquire().await, ErrorKind::InvalidArgument);
}

async fn hold_by_a_guard(locks: &LockManager, world: &World) {
    let guard = locks.lock(KEY).acquire().await.unwrap();
    guard.extend(secs(30)).await.unwrap();
    world.plan(Operation::Extend, &Fault::NotSent, 1);
    error_of(guard.extend(secs(30)).await, ErrorKind::ServiceUnavailable);
    world.plan(Operation::Release, &Fault::NotSent, 1);
    error_of(guard.release().await, ErrorKind::ServiceUnavailable);
    drained(locks).await;
    world.plan(Operation::Release, &Fault::Refused, 1);
    drop(locks.lock(KEY).ttl(secs(1)).acquire().await.unwrap());
    drained(locks).await;
    sleep(secs(3)).await;
}

async fn acquire_without_a_reply(locks: &LockManager, world: &World) {
    world.plan(Operation::Acquire, &Fault::ReplyLost, 1);
    world.plan(Operation::Acquire, &Fault::RequestLost, 1);
    error_of(locks.lock(KEY).try_acquire().await, ErrorKind::Ambiguous);
    drained(locks).await;
    world.assert_planned(0);
}

/// Runs operations that emit every span and every event.
async fn trace_everything(world: &World) -> Trace {
    let (trace, _tracing) = Trace::begin();
    let locks = world.builder().on_release_error(|_| panic!("the callback panics")).build();
    run_that_is_renewed(&locks, world).await;
    run_that_is_lost(&locks, world).await;
    wait_until_the_timeout(&locks, world).await;
    hold_by_a_guard(&locks, world).await;
    acquire_without_a_reply(&locks, world).await;
    world.others.seed_fence(&key(KEY), Fence::WARNING);
    locks.lock(KEY).acquire().await.unwrap().release().await.unwrap();
    trace
}

#[tokio::test(start_paused = true)]
async fn each_span_has_the_documented_fields_and_each_field_is_recorded() {
    let spans = trace_everything(&World::new()).await.spans();
    let mut documented = documented();
    documented.remove("events");
    let mut declared = BTreeMap::<_, BTreeSet<_>>::new();
    let mut recorded = declared.clone();
    for span in &spans {
        assert_eq!(span.target(), "syncguard");
        declared.entry(span.name()).or_default().extend(span.declared());
        recorded.entry(span.name()).or_default().extend(span.fields.keys().copied());
    }
    assert_eq!(declared, documented);
    assert_eq!(recorded, documented);
}

#[tokio::test(start_paused = true)]
async fn each_span_has_the_documented_level() {
    let spans = trace_everything(&World::new()).await.spans();
    for row in table("Span") {
        let level: Level = row[1].parse().unwrap();
        let name = names(row[0])[0];
        let mut found = spans.iter().filter(|span| span.name() == name).peekable();
        assert!(found.peek().is_some() && found.all(|span| span.level() == level), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_event_has_documented_fields_and_each_field_is_recorded() {
    let events = trace_everything(&World::new()).await.events();
    let mut recorded: BTreeSet<_> = events.iter().flat_map(|event| event.declared()).collect();
    assert!(recorded.remove("message"));
    assert_eq!(recorded, documented()["events"]);
    let messages: BTreeSet<_> = events.iter().filter_map(|event| event.field("message")).collect();
    let rows = table("Level");
    let listed: BTreeSet<_> = rows.iter().flat_map(|row| names(row[1])).collect();
    assert_eq!(messages, listed);
    for event in &events {
        let message = event.field("message").unwrap();
        let row = rows.iter().find(|row| row[1].contains(message)).unwrap();
        assert_eq!((event.target(), event.level()), ("syncguard", row[0].parse().unwrap()));
    }
}

/// Returns whether a text contains a lock id.
fn has_an_id(text: &str) -> bool {
    let of_an_id = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    text.split(|c| !of_an_id(c)).any(|word| word.len() == 22 && word.parse::<LockId>().is_ok())
}

#[tokio::test(start_paused = true)]
async fn no_key_and_no_id_is_traced_in_clear() {
    let trace = trace_everything(&World::new()).await;
    assert!(
        has_an_id(&format!("id={}", LockId::mint().unwrap().as_str())),
        "the search finds an id"
    );
    let traced: Vec<Traced> = trace.spans().into_iter().chain(trace.events()).collect();
    for value in traced.iter().flat_map(|traced| traced.fields.values()) {
        assert!(!value.contains("jane") && !has_an_id(value), "{value}");
    }
    let hash = key(KEY).display_hash().to_string();
    assert!(traced.iter().any(|traced| traced.field("syncguard.key.hash") == Some(&hash)));
}

#[tokio::test(start_paused = true)]
async fn a_request_is_within_the_operation_that_sends_it() {
    let spans = trace_everything(&World::new()).await.spans();
    let parents = |name: &str| -> BTreeSet<_> {
        let spans = spans.iter().filter(|span| span.name() == name);
        spans.map(|span| span.parent).collect()
    };
    let senders = ["acquire", "clean_up", "extend", "release", "renew"];
    assert_eq!(parents("request"), senders.map(Some).into());
    assert_eq!(parents("acquire"), [None, Some("run")].into());
    assert_eq!(parents("release"), [None, Some("run")].into());
    for root in ["run", "extend", "renew", "clean_up"] {
        assert_eq!(parents(root), [None].into(), "{root}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clean_up_follows_from_the_span_in_which_it_began() {
    let world = World::new();
    let (trace, _tracing) = Trace::begin();
    acquire_without_a_reply(&world.locks(), &world).await;
    assert_eq!(trace.spans_of("clean_up")[0].follows, ["acquire"]);
}

#[tokio::test(start_paused = true)]
async fn an_acquire_that_is_dropped_is_cancelled_and_its_second_request_is_within_its_span() {
    let (world, gate) = (World::new(), Gate::new());
    let (locks, (trace, _tracing)) = (world.locks(), Trace::begin());
    world.plan(Operation::Acquire, &Fault::RequestDelayed(gate.clone()), 1);
    assert!(timeout(secs(1), locks.lock("k").acquire()).await.is_err());
    let [acquire] = &trace.spans_of("acquire")[..] else { panic!("{trace:?}") };
    assert_eq!(acquire.field("syncguard.outcome"), Some("cancelled"));
    // Longer than the request timeout, so that the request is repeated.
    sleep(secs(15)).await;
    drained(&locks).await;
    let requests = trace.spans_of("request");
    let acquires: Vec<_> = requests
        .iter()
        .filter(|request| request.field("syncguard.operation") == Some("acquire"))
        .map(|request| (request.parent, request.field("syncguard.outcome")))
        .collect();
    assert_eq!(acquires, [(Some("acquire"), Some("error")), (Some("acquire"), Some("ok"))]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_lock_is_reported_once_with_its_reason() {
    let world = World::new();
    let (trace, _tracing) = Trace::begin();
    let guard = world.locks().lock("k").renew(Renew::Never).acquire().await.unwrap();
    guard.lost().await;
    assert!(!guard.is_valid() && guard.fence().is_err());
    let fence = format!("{}", Fence::ZERO.next().unwrap());
    drop(guard);
    let [lost] = &trace.events()[..] else { panic!("{trace:?}") };
    assert_eq!(lost.field("message"), Some("lock lost"));
    assert_eq!(lost.field("syncguard.reason"), Some("expired"));
    assert_eq!(lost.field("syncguard.fence"), Some(fence.as_str()));
}
