//! What an examination of a store finds, line by line.

use std::fmt::Display;

use syncguard::backend::{Finding, Severity};

use crate::{answer, display, exit::Exit, failure::Failure};

/// How a line is judged. The worst decides how the program exits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    #[default]
    Ok,
    /// The program was not allowed to look at it.
    Unknown,
    /// A guarantee is weakened under some fault, or an operation is not available.
    Warning,
    /// A guarantee is broken.
    Unsafe,
    /// Locks do not work.
    Failed,
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Unsafe => "unsafe",
            Self::Failed => "failed",
        }
    }
}

impl From<Severity> for Verdict {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Unknown => Self::Unknown,
            Severity::Warning => Self::Warning,
            Severity::Unsafe => Self::Unsafe,
        }
    }
}

/// Prints the lines as they are found.
#[derive(Debug, Default)]
pub(crate) struct Diagnosis {
    worst: Verdict,
    /// What could not be looked at.
    unknown: Vec<String>,
}

impl Diagnosis {
    pub(crate) fn add(
        &mut self,
        verdict: Verdict,
        what: &str,
        words: impl Display,
    ) -> Result<(), Failure> {
        self.worst = self.worst.max(verdict);
        if verdict == Verdict::Unknown {
            self.unknown.push(what.to_owned());
        }
        let line = display::line(&format!("{what}: {words}"));
        answer::print(&format!("{:<8} {line}", verdict.as_str())).map(drop)
    }

    pub(crate) fn add_finding(&mut self, finding: &Finding) -> Result<(), Failure> {
        self.add(finding.severity.into(), &finding.setting, &finding.consequence)
    }

    /// Says what could not be looked at; returns how the program exits.
    pub(crate) fn conclude(self, is_strict: bool) -> Result<Exit, Failure> {
        if !self.unknown.is_empty() {
            let unknown = display::line(&self.unknown.join(", "));
            answer::print(&format!("not allowed to look at: {unknown}"))?;
        }
        Ok(match self.worst {
            Verdict::Failed => Exit::UNAVAILABLE,
            Verdict::Unsafe => Exit::CONFIGURATION,
            Verdict::Warning | Verdict::Unknown if is_strict => Exit::CONFIGURATION,
            _ => Exit::SUCCESS,
        })
    }
}
