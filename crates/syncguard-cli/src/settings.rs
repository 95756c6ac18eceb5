//! Warns of settings of the store that break a guarantee.

use std::cmp::Reverse;

use syncguard::{
    DynBackend,
    backend::{LockBackend, Severity},
};

use crate::report::warn;

/// Checks the settings of the store. What cannot be checked is one line, because nothing is known to
/// be wrong; the store is used in any case.
pub(crate) async fn warn_of_settings(backend: &DynBackend) {
    let mut findings = match backend.check().await {
        Ok(findings) => findings,
        Err(error) => {
            return warn(format_args!("the settings of the store are not known: {error}"));
        }
    };
    findings.sort_by_key(|finding| Reverse(finding.severity));
    let (unknown, known): (Vec<_>, Vec<_>) =
        findings.iter().partition(|finding| finding.severity == Severity::Unknown);
    for finding in known {
        warn(format_args!("{}: {}", finding.setting, finding.consequence));
    }
    if !unknown.is_empty() {
        let names: Vec<_> = unknown.iter().map(|finding| finding.setting.as_ref()).collect();
        warn(format_args!("settings of the store that cannot be read: {}", names.join(", ")));
    }
}
