use std::{borrow::Cow, fmt, future::Future};

use crate::{Error, ErrorKind, Operation};

/// A setting of the store that would break a guarantee.
///
/// # Examples
///
/// ```
/// use syncguard_core::backend::Finding;
///
/// let finding = Finding::unsafe_setting("fsync = off", "a crash can set a fence back");
/// assert_eq!(finding.to_string(), "unsafe: fsync = off: a crash can set a fence back");
/// ```
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
    /// The setting could not be read, for example because the user lacks the right to do so. A
    /// guarantee may be weakened or broken.
    Unknown,
    /// A guarantee is weakened under some fault.
    Warning,
    /// The store may grant a key to two holders, or let a fence decrease.
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

    /// Creates a finding for a setting that could not be read.
    pub fn unknown(
        setting: impl Into<Cow<'static, str>>,
        consequence: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { severity: Severity::Unknown, ..Self::warning(setting, consequence) }
    }

    /// Creates a finding for a setting with which the store may grant a key to two holders, or let
    /// a fence decrease.
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
    /// For [`Refuse`](Self::Refuse): [`Unsupported`](ErrorKind::Unsupported) if there are unsafe
    /// settings, and the error of `check`, as an error of [`Operation::Check`] that is not applied,
    /// if the check fails.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::{ErrorKind, NullBackend, UnsafeSettings, backend::LockBackend};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let backend = NullBackend::default(); // its check returns an unsafe setting
    /// let error = UnsafeSettings::Refuse.enforce(backend.check()).await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Unsupported);
    /// assert!(UnsafeSettings::Ignore.enforce(backend.check()).await.is_ok());
    /// # }
    /// ```
    pub async fn enforce(
        self,
        check: impl Future<Output = Result<Vec<Finding>, Error>> + Send,
    ) -> Result<(), Error> {
        if self == Self::Ignore {
            return Ok(());
        }
        let findings = check.await;
        let findings =
            findings.map_err(|error| error.with_operation(Operation::Check).not_applied());
        let findings = match findings {
            Ok(findings) => findings,
            Err(error) if self == Self::Refuse => return Err(error),
            Err(error) => {
                tracing::warn!(
                    target: "syncguard",
                    %error,
                    "the settings of the store could not be read"
                );
                return Ok(());
            }
        };
        let (unsafe_settings, warnings): (Vec<_>, Vec<_>) =
            findings.iter().partition(|finding| finding.severity == Severity::Unsafe);
        for finding in warnings {
            tracing::warn!(
                target: "syncguard",
                %finding,
                "a setting of the store weakens a guarantee"
            );
        }
        if self == Self::Refuse && !unsafe_settings.is_empty() {
            let settings: Vec<_> =
                unsafe_settings.iter().map(|finding| finding.setting.as_ref()).collect();
            let detail = format!("the settings of the store are unsafe: {}", settings.join(", "));
            let error = Error::new(ErrorKind::Unsupported).with_operation(Operation::Connect);
            return Err(error.with_detail(detail).not_applied());
        }
        for finding in unsafe_settings {
            tracing::warn!(target: "syncguard", %finding, "a setting of the store is unsafe");
        }
        Ok(())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Unknown => "unknown",
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
        std::future::ready(Err(Error::new(ErrorKind::ServiceUnavailable)))
    }

    #[tokio::test]
    async fn unsafe_settings_are_rejected_by_name_and_warnings_are_not() {
        let (unsafe_setting, warning) =
            (Finding::unsafe_setting("fsync off", "…"), Finding::warning("slow", "…"));
        let result =
            UnsafeSettings::Refuse.enforce(found(&[warning.clone(), unsafe_setting.clone()])).await;
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("fsync off") && !error.to_string().contains("slow"));
        assert!(UnsafeSettings::Refuse.enforce(found(&[warning])).await.is_ok());
        assert!(UnsafeSettings::Warn.enforce(found(&[unsafe_setting])).await.is_ok());
    }

    #[tokio::test]
    async fn refuse_rejects_settings_that_cannot_be_read_and_warn_does_not() {
        let error = UnsafeSettings::Refuse.enforce(failed()).await.unwrap_err();
        // Whoever connects must not replace it.
        let error = error.with_operation(Operation::Connect);
        assert_eq!(error.operation(), Some(Operation::Check));
        assert!(!error.may_have_applied(), "a check only reads");
        assert!(UnsafeSettings::Warn.enforce(failed()).await.is_ok());
    }

    #[tokio::test]
    async fn ignore_does_not_run_the_check() {
        let never = async { panic!("the check ran") };
        assert!(UnsafeSettings::Ignore.enforce(never).await.is_ok());
    }
}
