//! Steps of the tests of a server's settings.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use syncguard_core::backend::{AcquireOutcome, LockBackend, Severity};
use tokio::task::JoinSet;

use crate::operations::{LONG, ask, extended, released};

/// Returns the unsafe settings that the backend reports.
pub async fn findings(backend: &impl LockBackend) -> Vec<(Severity, String)> {
    let findings = backend.check().await.unwrap();
    findings.into_iter().map(|f| (f.severity, f.setting.into_owned())).collect()
}

/// Runs tasks that contend for a lock until each was granted it five times.
pub async fn contend(backend: &(impl LockBackend + Clone)) {
    let mut tasks = JoinSet::new();
    for _ in 0..16 {
        let backend = backend.clone();
        tasks.spawn(async move {
            let mut granted_count = 0;
            while granted_count < 5 {
                let request = ask("fought over", LONG);
                let outcome = backend.acquire(&request).await.unwrap();
                if matches!(outcome, AcquireOutcome::Granted(_)) {
                    granted_count += 1;
                    assert!(extended(&backend, &request).await);
                    assert!(released(&backend, &request).await);
                }
            }
        });
    }
    tasks.join_all().await;
}
