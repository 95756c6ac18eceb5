//! How much the program reports of what it does.

use std::sync::OnceLock;

/// How much is printed on stderr besides errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verbosity {
    /// Nothing.
    Quiet,
    /// Warnings, and on a terminal what is waited for.
    #[default]
    Normal,
    /// Each step as well, with its time.
    Verbose,
}

static CHOSEN: OnceLock<Verbosity> = OnceLock::new();

impl Verbosity {
    /// Applies this choice to the whole program. The first choice stays.
    pub(crate) fn choose(self) {
        let _ = CHOSEN.set(self);
    }

    pub(crate) fn chosen() -> Self {
        CHOSEN.get().copied().unwrap_or_default()
    }
}
