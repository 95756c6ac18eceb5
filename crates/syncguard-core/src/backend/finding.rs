use std::{borrow::Cow, fmt, future::Future};

use crate::{Error, ErrorKind, Operation};

/// A setting of the store that would break a guarantee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The severity of the setting.
    pub severity: Severity,
    /// The setting and its value, in the store's own words.
    pub setting: Cow<'static, str>,
    /// Which guarantee does not hold because of it, and what to do.
    pub consequence: Cow<'static, str>,
}

/// Rates a [`Finding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// A guarantee is weakened under some fault.
    Warning,
    /// Two holders, or a fence that goes back, are to be expected.
    Unsafe,
}

impl Finding {
    /// Creates a finding for a setting that weakens a guarantee under some fault.
    pub fn warning(
        setting: impl Into<Cow<'static, str>>,
        consequence: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            severity: Severity::Warning,
            setting: setting.into(),
            consequence: consequence.into(),
        }
    }

    /// Creates a finding for a setting with which two holders, or a fence that goes back, are to be
    /// expected.
    pub fn unsafe_setting(
        setting: impl Into<Cow<'static, str>>,
        consequence: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { severity: Severity::Unsafe, ..Self::warning(setting, consequence) }
    }
}

/// Selects how connecting handles settings of a store that are [unsafe](Severity::Unsafe).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnsafeSettings {
    /// Fails with [`Unsupported`](ErrorKind::Unsupported) and names the settings.
    Refuse,
    /// Logs them as a warning.
    #[default]
    Warn,
    /// Skips the check.
    Ignore,
}

impl UnsafeSettings {
    /// Checks the store's settings with `check` and applies this policy to the result. For
    /// backends, when they connect.
    ///
    /// # Errors
    ///
    /// If unsafe settings are to be refused: [`Unsupported`](ErrorKind::Unsupported) if there are
    /// any, and the error of `check` if the check fails.
    pub async fn enforce(
        self,
        check: impl Future<Output = Result<Vec<Finding>, Error>> + Send,
    ) -> Result<(), Error> {
        if self == Self::Ignore {
            return Ok(());
        }
        let findings = match check.await {
            Ok(findings) => findings,
            Err(error) if self == Self::Refuse => return Err(error),
            Err(error) => {
                tracing::warn!(target: "syncguard", %error, "the settings of the store could not be read");
                return Ok(());
            }
        };
        let (broken, weakened): (Vec<_>, Vec<_>) =
            findings.iter().partition(|finding| finding.severity == Severity::Unsafe);
        for finding in weakened {
            tracing::warn!(target: "syncguard", %finding, "a setting of the store weakens a promise");
        }
        if self == Self::Refuse && !broken.is_empty() {
            let settings: Vec<_> = broken.iter().map(|finding| finding.setting.as_ref()).collect();
            let detail = format!("the settings of the store are unsafe: {}", settings.join(", "));
            let error = Error::new(ErrorKind::Unsupported, Operation::Connect);
            return Err(error.with_detail(detail).not_applied());
        }
        for finding in broken {
            tracing::warn!(target: "syncguard", %finding, "a setting of the store breaks a promise");
        }
        Ok(())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Unsafe => "unsafe",
        };
        write!(f, "{severity}: {}: {}", self.setting, self.consequence)
    }
}

#[cfg(test)]
mod tests {
    use super::{Finding, UnsafeSettings};
    use crate::{Error, ErrorKind, Operation};

    fn found(findings: &[Finding]) -> impl Future<Output = Result<Vec<Finding>, Error>> + Send {
        std::future::ready(Ok(findings.to_vec()))
    }

    fn failed() -> impl Future<Output = Result<Vec<Finding>, Error>> + Send {
        std::future::ready(Err(Error::new(ErrorKind::ServiceUnavailable, Operation::Check)))
    }

    #[tokio::test]
    async fn unsafe_settings_are_refused_by_name_and_others_are_not() {
        let (broken, weakened) =
            (Finding::unsafe_setting("fsync off", "…"), Finding::warning("slow", "…"));
        let refused =
            UnsafeSettings::Refuse.enforce(found(&[weakened.clone(), broken.clone()])).await;
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("fsync off") && !error.to_string().contains("slow"));
        assert!(UnsafeSettings::Refuse.enforce(found(&[weakened])).await.is_ok());
        assert!(UnsafeSettings::Warn.enforce(found(&[broken])).await.is_ok());
    }

    #[tokio::test]
    async fn settings_that_cannot_be_read_are_refused_where_unsafe_ones_are() {
        assert!(UnsafeSettings::Refuse.enforce(failed()).await.is_err());
        assert!(UnsafeSettings::Warn.enforce(failed()).await.is_ok());
    }

    #[tokio::test]
    async fn who_ignores_settings_does_not_look() {
        let never = async { panic!("it was looked at") };
        assert!(UnsafeSettings::Ignore.enforce(never).await.is_ok());
    }
}
