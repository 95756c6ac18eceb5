//! The program's answers on stdout.

use std::io::{self, ErrorKind, Write};

use crate::{exit::Exit, failure::Failure};

/// Prints `text`, and a line break if it does not end with one.
pub(crate) fn print(text: &str) -> Result<Exit, Failure> {
    match write(text) {
        // A reader that closed the pipe early wants no more.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::Output(error)),
        Ok(()) | Err(_) => Ok(Exit::SUCCESS),
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.is_empty() && !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    out.flush()
}
