//! The program's messages on stderr: one line per message, without ever blocking on the reader.

use std::{
    error::Error,
    fmt,
    io::{self, Write},
    sync::{
        OnceLock,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use clap::error::ErrorKind;
use nix::sys::signal::{SigSet, Signal::SIGTTOU};

use crate::{display, exit::Exit};

/// How many lines may be queued for a reader of stderr. Further lines are dropped.
const MAX_PENDING_LINES: usize = 16;

/// How long the program waits for a reader of stderr before it exits.
const FLUSH_LIMIT: Duration = Duration::from_millis(200);

/// The writer to stderr, `None` if the system has no thread for it.
static WRITER: OnceLock<Option<SyncSender<Message>>> = OnceLock::new();

enum Message {
    Line(String),
    /// Answered when all lines before it are written.
    Flush(SyncSender<()>),
}

/// Queues a message. If stderr is closed, the message is discarded.
///
/// Never blocks: stderr may be a pipe that is full, or a terminal that was halted, while a command
/// has to be ended. A thread writes; [`flush`] waits for it.
pub(crate) fn say(words: impl fmt::Display) {
    let line = display::line(&format!("syncguard: {words}"));
    if let Some(writer) = WRITER.get_or_init(start_writer) {
        let _ = writer.try_send(Message::Line(line + "\n"));
    }
}

/// Waits until all queued messages are written, but not for long.
pub(crate) fn flush() {
    let Some(Some(writer)) = WRITER.get() else { return };
    let (written, flushed) = sync_channel(1);
    if writer.try_send(Message::Flush(written)).is_ok() {
        let _ = flushed.recv_timeout(FLUSH_LIMIT);
    }
}

fn start_writer() -> Option<SyncSender<Message>> {
    let (messages, pending) = sync_channel(MAX_PENDING_LINES);
    let thread = thread::Builder::new().name("stderr".to_owned());
    thread.spawn(move || write_all(&pending)).ok().map(|_| messages)
}

fn write_all(pending: &Receiver<Message>) {
    // A terminal under `stty tostop` stops a process that writes from the background, where this
    // one is while its command has the terminal. Blocked, the signal is not sent.
    let _ = SigSet::from(SIGTTOU).thread_block();
    for message in pending {
        match message {
            Message::Line(line) => drop(io::stderr().write_all(line.as_bytes())),
            Message::Flush(written) => drop(written.try_send(())),
        }
    }
}

/// Reports what failed and its causes.
pub(crate) fn failure(failure: &dyn Error) {
    say(chain(failure));
}

/// Joins an error and its causes, except those that the previous one has already included.
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

/// Prints the help or the version if requested, or reports why the arguments are invalid.
pub(crate) fn usage_error(error: &clap::Error) -> Exit {
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
