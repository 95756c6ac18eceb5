//! The program's messages on stderr: one line per message, without ever blocking on the reader.

use std::{
    fmt,
    io::{self, Write},
    sync::{
        OnceLock,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, SystemTime},
};

use nix::sys::signal::{SigSet, Signal::SIGTTOU};

use syncguard::{LockKey, text::Quoted};

use crate::{display, verbosity::Verbosity};

/// How many lines may be queued for a reader of stderr. Further lines are dropped.
const MAX_PENDING_LINES: usize = 16;

/// How long the program waits for a reader of stderr before it exits.
const FLUSH_LIMIT: Duration = Duration::from_millis(200);

/// The writer to stderr, `None` if the system has no thread for it.
static WRITER: OnceLock<Option<SyncSender<Message>>> = OnceLock::new();

/// Moves to the beginning of the terminal's line and erases it (ECMA-48, EL).
const ERASE_LINE: &str = "\r\x1b[K";

enum Message {
    Line(String),
    /// Shown on a terminal until the next message; without text, only erases the previous one.
    Transient(String),
    /// Answered when all lines before it are written.
    Flush(SyncSender<()>),
}

/// Queues a message. If stderr is closed, the message is discarded.
///
/// Never blocks: stderr may be a pipe that is full, or a terminal that was halted, while a command
/// has to be ended. A thread writes; [`flush`] waits for it.
pub(crate) fn say(words: impl fmt::Display) {
    let line = display::line(&with_keys(format!("syncguard: {words}")));
    send(Message::Line(line + "\n"));
}

/// Queues a warning, unless the program is to be quiet.
pub(crate) fn warn(words: impl fmt::Display) {
    if Verbosity::chosen() > Verbosity::Quiet {
        say(format_args!("warning: {words}"));
    }
}

/// Queues a message about a step and its time, if the program is to be verbose.
pub(crate) fn note(words: impl fmt::Display) {
    if Verbosity::chosen() == Verbosity::Verbose {
        say(format_args!("{} {words}", humantime::format_rfc3339_millis(SystemTime::now())));
    }
}

/// Shows one line of at most `width` characters on the terminal, which the next message replaces.
pub(crate) fn show(words: impl fmt::Display, width: usize) {
    let line = display::line(&format!("syncguard: {words}"));
    send(Message::Transient(line.chars().take(width).collect()));
}

/// Erases the line that is shown, and waits until that is done, but not for long.
pub(crate) fn erase() {
    send(Message::Transient(String::new()));
    flush();
}

fn send(message: Message) {
    if let Some(writer) = WRITER.get_or_init(start_writer) {
        let _ = writer.try_send(message);
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
    let write = |text: String| drop(io::stderr().write_all(text.as_bytes()));
    let mut shown = false;
    for message in pending {
        let (text, is_transient) = match message {
            Message::Line(line) => (line, false),
            Message::Transient(text) => (text, true),
            Message::Flush(written) => {
                let _ = written.try_send(());
                continue;
            }
        };
        let erase = if shown { ERASE_LINE } else { "" };
        shown = is_transient && !text.is_empty();
        write(format!("{erase}{text}"));
    }
}

/// The keys that the user has typed.
static KEYS: OnceLock<Vec<LockKey>> = OnceLock::new();

/// Shows these keys in all messages, where errors have only their hashes. The user knows them anyway,
/// and the hash stays, by which logs of services are searched.
pub(crate) fn name_keys(keys: &[LockKey]) {
    let _ = KEYS.set(keys.to_vec());
}

fn with_keys(text: String) -> String {
    KEYS.get().into_iter().flatten().fold(text, |text, key| {
        let hash = key.display_hash().to_string();
        text.replace(&hash, &format!("{} ({hash})", Quoted(key.as_str())))
    })
}
