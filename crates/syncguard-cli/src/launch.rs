//! What the child does before it becomes the command.

use std::{ffi::OsStr, io, os::unix::process::CommandExt, process::Command};

use rustix::process::{Pid, getpid, getppid};

use crate::{
    arguments::{Launch, Placement},
    exit::Exit,
    report::say,
    terminal::Terminal,
};

/// Becomes the command, tied to the life of the parent.
///
/// Returns only if that fails. A separate process must do this, because nothing may run in a child
/// between `fork` and `exec` without `unsafe`.
pub(crate) fn launch(arguments: &Launch) -> Exit {
    let [program, rest @ ..] = arguments.command.as_slice() else {
        return Exit::USAGE;
    };
    if let Err(error) = die_with_parent() {
        say(format_args!("the command cannot be tied to the life of syncguard: {error}"));
        return Exit::SYSTEM;
    }
    // The signal covers only a later death. A parent that has already died has been replaced.
    if getppid().map(Pid::as_raw_pid) != Some(arguments.parent) {
        say("the command was not started, because syncguard is gone");
        return Exit::SYSTEM;
    }
    if arguments.placement() == Placement::Foreground
        && let Some(terminal) = Terminal::open()
    {
        terminal.give_to(getpid());
    }
    exec_failed(program, &Command::new(program).args(rest).exec())
}

#[cfg(target_os = "linux")]
fn die_with_parent() -> io::Result<()> {
    use rustix::process::{Signal, set_parent_process_death_signal};

    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// Other systems have no such signal, which is documented.
#[cfg(not(target_os = "linux"))]
fn die_with_parent() -> io::Result<()> {
    Ok(())
}

/// Reports why a program did not start, and exits as a shell would.
fn exec_failed(program: &OsStr, error: &io::Error) -> Exit {
    let program = program.display();
    if error.kind() == io::ErrorKind::NotFound {
        say(format_args!("{program}: command not found"));
        return Exit::NOT_FOUND;
    }
    say(format_args!("{program}: cannot be executed: {error}"));
    Exit::NOT_EXECUTABLE
}
