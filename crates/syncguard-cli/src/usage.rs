//! Arguments that are invalid, and requests for help.

use std::env;

use clap::error::{ContextKind, ContextValue, ErrorKind};

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
    // The usage is for users who ask for help.
    let text = error.to_string();
    let mut parts = text.split("\n\n");
    let reason = parts.next().unwrap_or_default().trim_start_matches("error: ");
    let tips = parts.flat_map(str::lines).filter_map(|line| line.trim().strip_prefix("tip: "));
    let tips = tips.map(str::to_owned).chain(missing_dashes(error));
    let tips: String = tips.map(|tip| format!("; {tip}")).collect();
    say(format_args!("{reason}{tips}; see --help"));
    Exit::USAGE
}

/// Returns a tip for a command that does not follow a `--`.
fn missing_dashes(error: &clap::Error) -> Option<String> {
    let mut arguments = env::args_os().skip(1);
    let verb = arguments.next()?;
    let takes_command = verb == "run" || verb == "leader";
    if error.kind() != ErrorKind::UnknownArgument
        || !takes_command
        || arguments.any(|word| word == "--")
    {
        return None;
    }
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(word)) if !word.starts_with('-') => {
            Some("the command follows a --, as in: -- COMMAND".to_owned())
        }
        _ => None,
    }
}
