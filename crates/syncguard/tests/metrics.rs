//! What is measured of locks, as Prometheus reads it.

#![cfg(test)]

use std::{collections::BTreeSet, time::Duration};

use metrics_exporter_prometheus::PrometheusHandle;
use syncguard::{
    ErrorKind, LockKey, LockManager, Operation,
    memory::MemoryBackend,
    telemetry::{self, Observed},
};
use syncguard_core::contract::{Fault, Faulty, Gate};

#[expect(dead_code, reason = "the example has a main function of its own")]
#[path = "../examples/prometheus.rs"]
mod example;

/// The page on which all of this is documented.
const PAGE: &str = include_str!("../../syncguard-core/TELEMETRY.md");

/// Returns the documented metrics with their kinds and with their labels.
fn documented() -> Vec<(&'static str, &'static str, BTreeSet<&'static str>)> {
    let rows = PAGE.lines().filter(|line| line.starts_with("| `syncguard_"));
    rows.map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let labels =
            cells[2].split([',', ';']).map(|label| label.split(':').next().unwrap().trim());
        let named = labels.filter_map(|label| label.strip_prefix('`')?.strip_suffix('`'));
        let labels =
            named.filter(|label| ["mode", "outcome", "end", "reason", "operation"].contains(label));
        (cells[0].trim_matches('`'), cells[1], labels.collect())
    })
    .collect()
}

/// Measures what is done by one thread.
fn measured(work: impl AsyncFnOnce()) -> PrometheusHandle {
    let recorder = example::exporter().unwrap().build_recorder();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    metrics::with_local_recorder(&recorder, || {
        telemetry::describe_metrics();
        runtime.block_on(work());
    });
    recorder.handle()
}

/// Returns the value of a counter, or how many values a histogram has.
fn value(text: &str, metric: &str, labels: &[(&str, &str)]) -> f64 {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let of_metric = lines.filter(|line| line.split(['{', ' ']).next() == Some(metric));
    let mut labelled = of_metric.filter(|line| {
        labels.iter().all(|(name, value)| line.contains(&format!("{name}=\"{value}\"")))
    });
    labelled.next().map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

/// Abandons a grant whose outcome is unknown, and leaves another one to its ttl.
async fn fail(faults: &Faulty<MemoryBackend>) {
    let locks = LockManager::new(faults.clone());
    faults.plan(Operation::Acquire, Fault::ReplyLost);
    faults.plan(Operation::Acquire, Fault::RequestLost);
    let doubtful = locks.lock("patient:jane").try_acquire().await;
    assert_eq!(doubtful.unwrap_err().kind(), ErrorKind::Ambiguous);
    let _ = locks.shutdown(Duration::from_secs(10)).await;
    faults.plan(Operation::Release, Fault::Refused);
    drop(locks.lock("patient:jane").acquire().await.unwrap());
    let _ = locks.shutdown(Duration::from_secs(10)).await;
    assert_eq!(faults.planned(), 0, "the faults happened");
}

async fn everything() {
    let faults = Faulty::new(MemoryBackend::new());
    example::use_locks(&LockManager::new(faults.clone())).await.unwrap();
    fail(&faults).await;
}

#[test]
fn each_metric_is_rendered_with_its_kind_its_description_and_its_labels() {
    let text = measured(everything).render();
    let documented = documented();
    assert_eq!(documented.len(), 7);
    for (metric, kind, labels) in &documented {
        assert!(text.contains(&format!("# TYPE {metric} {kind}\n")), "{metric}: {text}");
        assert!(text.contains(&format!("# HELP {metric} ")), "{metric}: {text}");
        let count =
            if *kind == "histogram" { format!("{metric}_count") } else { (*metric).to_owned() };
        let sample =
            text.lines().find(|line| line.split(['{', ' ']).next() == Some(&count)).unwrap();
        let block = sample.split('{').nth(1).unwrap_or_default().split('}').next().unwrap();
        let names =
            block.split(',').filter_map(|label| label.split_once('=')).map(|(name, _)| name);
        assert_eq!(names.collect::<BTreeSet<_>>(), *labels, "{sample}");
    }
    let typed = text.lines().filter(|line| line.starts_with("# TYPE"));
    assert_eq!(typed.count(), documented.len(), "{text}");
}

#[test]
fn what_happens_is_counted() {
    let text = measured(everything).render();
    let of = |metric, labels: &[_]| value(&text, metric, labels);
    let acquisitions = |outcome| of("syncguard_acquisitions_total", &[("outcome", outcome)]);
    assert_eq!((acquisitions("ok"), acquisitions("fail"), acquisitions("error")), (4.0, 1.0, 1.0));
    assert_eq!(of("syncguard_acquire_wait_seconds_count", &[("outcome", "ok")]), 4.0);
    assert!(of("syncguard_contention_total", &[]) >= 1.0);
    assert!(of("syncguard_renewals_total", &[("outcome", "ok")]) >= 1.0);
    assert_eq!(of("syncguard_renewals_total", &[("outcome", "fail")]), 1.0);
    assert_eq!(of("syncguard_losses_total", &[("reason", "not-held")]), 1.0);
    assert_eq!(of("syncguard_hold_seconds_count", &[("end", "lost")]), 1.0);
    assert_eq!(of("syncguard_hold_seconds_count", &[("end", "released")]), 3.0);
    let clean_ups = |operation, outcome| {
        of("syncguard_clean_ups_total", &[("operation", operation), ("outcome", outcome)])
    };
    assert_eq!((clean_ups("release", "ok"), clean_ups("release", "error")), (1.0, 1.0));
    assert_eq!(clean_ups("abandon", "ok"), 1.0);
}

#[test]
fn times_are_in_seconds() {
    let text = measured(everything).render();
    let waited = value(&text, "syncguard_acquire_wait_seconds_sum", &[("outcome", "fail")]);
    assert!((0.05..30.0).contains(&waited), "a wait of 50 ms took {waited} s");
    let held = value(&text, "syncguard_hold_seconds_sum", &[("end", "released")]);
    assert!((0.15..30.0).contains(&held), "a hold of 150 ms took {held} s");
}

#[test]
fn an_acquire_that_is_dropped_counts_as_cancelled() {
    let text = measured(async || {
        let (faults, gate) = (Faulty::new(MemoryBackend::new()), Gate::new());
        faults.plan(Operation::Acquire, Fault::RequestDelayed(gate.clone()));
        let locks = LockManager::new(faults);
        tokio::select! {
            _ = locks.lock("k").acquire() => panic!("the gate is closed"),
            () = gate.reached() => {}
        }
        gate.open();
        let _ = locks.shutdown(Duration::from_secs(10)).await;
    });
    let text = text.render();
    assert_eq!(value(&text, "syncguard_acquisitions_total", &[("outcome", "cancelled")]), 1.0);
    assert_eq!(value(&text, "syncguard_clean_ups_total", &[("operation", "release")]), 1.0);
}

#[test]
fn a_clean_up_that_its_runtime_takes_along_counts_as_cancelled() {
    let recorder = example::exporter().unwrap().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let locks = LockManager::new(MemoryBackend::new());
        let guard = runtime.block_on(locks.lock("k").acquire()).unwrap();
        drop(runtime);
        drop(guard);
    });
    let text = recorder.handle().render();
    assert_eq!(value(&text, "syncguard_clean_ups_total", &[("outcome", "cancelled")]), 1.0);
}

#[test]
fn no_key_and_no_id_is_in_a_metric() {
    let (sender, events) = std::sync::mpsc::channel();
    let text = measured(async || {
        let faults = Faulty::new(MemoryBackend::new());
        let observed = Observed::builder(faults.clone()).reveal();
        let observed = observed.start(move |event| drop(sender.send(event.clone())));
        example::use_locks(&LockManager::new(observed)).await.unwrap();
        fail(&faults).await;
    });
    let text = text.render();
    let events: Vec<_> = events.iter().collect();
    assert!(events.iter().any(|event| event.key.is_some() && event.lock_id.is_some()));
    for event in &events {
        for secret in
            [event.key.as_ref().map(LockKey::as_str), event.lock_id.as_ref().map(|id| id.as_str())]
        {
            assert!(secret.is_none_or(|secret| !text.contains(secret)), "{secret:?}: {text}");
        }
    }
    assert!(!text.contains("jane"), "{text}");
}
