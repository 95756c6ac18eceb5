use std::{borrow::Cow, fmt};

/// One setting of the store that would break a promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The setting and its value, in the store's own words.
    pub setting: Cow<'static, str>,
    /// What does not hold because of it, and what to do.
    pub consequence: Cow<'static, str>,
}

/// Says how bad a [`Finding`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// A promise is weakened in some fault.
    Warning,
    /// Two holders, or a fence that goes back, are to be expected.
    Unsafe,
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
