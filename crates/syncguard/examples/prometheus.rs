//! Shows the metrics of locks as Prometheus reads them.
//!
//! Run by `cargo run -p syncguard --example prometheus --features metrics`. A service serves the text
//! under `/metrics` by whatever serves its other pages; the exporter's feature `http-listener` serves it
//! without.

#![expect(clippy::print_stdout, reason = "it shows the metrics")]

use metrics_exporter_prometheus::{BuildError, PrometheusBuilder};
use syncguard::{DurationExt, Error, ErrorKind, LockManager, memory::MemoryBackend, telemetry};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let prometheus = exporter()?.install_recorder()?;
    telemetry::describe_metrics();
    use_locks(&LockManager::new(MemoryBackend::new())).await?;
    println!("{}", prometheus.render());
    Ok(())
}

/// Counts times by how long they are, as far as it matters for locks. Without these bounds the exporter
/// makes summaries, which cannot be added up over several processes.
pub(crate) fn exporter() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new().set_buckets(&[0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0])
}

/// Does what there are metrics of, but for what takes a store that fails.
pub(crate) async fn use_locks(locks: &LockManager) -> Result<(), Error> {
    // Renewed while it is held.
    let report = locks.lock("report").ttl(300.millis());
    report.run(async |_| tokio::time::sleep(150.millis()).await).await?;

    // Held by somebody else until the wait is over, then released in the background.
    let guard = locks.lock("deploy").acquire().await?;
    let refused = locks.lock("deploy").wait(50.millis()).acquire().await;
    assert!(refused.is_err_and(|error| error.kind() == ErrorKind::AcquisitionTimeout));
    drop(guard);
    let _ = locks.shutdown(1.secs()).await;

    // Lost, because an operator takes it away.
    let import = locks.lock("import").ttl(300.millis()).run(async |_| {
        locks.force_release("import").await?;
        std::future::pending::<Result<(), Error>>().await
    });
    assert!(import.await.is_err_and(|error| error.kind() == ErrorKind::Lost));
    Ok(())
}
