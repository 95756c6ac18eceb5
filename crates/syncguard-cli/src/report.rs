//! What the program says on stderr: one line for each thing.

use std::{
    error::Error,
    fmt,
    io::{self, Write},
};

use clap::error::ErrorKind;

use crate::exit::Exit;

/// Says something. Whoever closed stderr does not want to know.
pub(crate) fn say(words: impl fmt::Display) {
    let line = one_line(&format!("syncguard: {words}"));
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Says what failed and what that came from.
pub(crate) fn failure(failure: &dyn Error) {
    say(chain(failure));
}

/// Joins an error and its causes, but for those that the one before has already spelt out.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

/// Shows the help or the version that was asked for, or says why the arguments make no sense.
pub(crate) fn refused(refusal: &clap::Error) -> Exit {
    if !refusal.use_stderr() {
        // A reader that went away early has seen what it wanted.
        let _ = refusal.print();
        return Exit::SUCCESS;
    }
    if refusal.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = refusal.print();
        return Exit::USAGE;
    }
    // The usage and the hints that follow after an empty line are for those who ask for help.
    let text = refusal.to_string();
    let reason = text.split("\n\n").next().unwrap_or_default();
    say(format_args!("{}; see --help", reason.trim_start_matches("error: ")));
    Exit::USAGE
}

/// Makes one line of whatever a file name or a server put into a message.
fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_control() || c.is_whitespace());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn nothing_breaks_the_line_or_steers_the_terminal() {
        assert_eq!(one_line("a\n  b\u{1b}[2J\tc\n"), "a b [2J c");
    }
}
