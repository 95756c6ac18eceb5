//! Prints messages to the user.

use std::fmt::Display;

#[expect(clippy::print_stdout, reason = "a task reports to the person who started it")]
pub(crate) fn say(line: impl Display) {
    println!("{line}");
}
