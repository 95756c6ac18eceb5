//! Arguments that are invalid, and requests for help.

use clap::error::ErrorKind;

use crate::{exit::Exit, report::say};

/// Prints the help or the version if requested, or reports why the arguments are invalid.
pub(crate) fn report(error: &clap::Error) -> Exit {
    if !error.use_stderr() {
        // A reader that closed the pipe early has seen what it wanted.
        let _ = error.print();
        return Exit::SUCCESS;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return Exit::USAGE;
    }
    // The usage and the hints after an empty line are for users who ask for help.
    let text = error.to_string();
    let reason = text.split("\n\n").next().unwrap_or_default();
    say(format_args!("{}; see --help", reason.trim_start_matches("error: ")));
    Exit::USAGE
}
