//! How an answer is printed.

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Format {
    /// Print JSON: one object on each line
    #[arg(long)]
    json: bool,
}

/// The output format of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutputFormat {
    Text,
    Json,
}

impl Format {
    pub(crate) fn chosen(&self) -> OutputFormat {
        if self.json { OutputFormat::Json } else { OutputFormat::Text }
    }
}
