//! Keeping the command in step with the shell's job control.

use std::{
    io::{IsTerminal, stdin, stdout},
    time::Duration,
};

use rustix::process::{Pid, Signal, getpgrp, kill_current_process_group};

use crate::{arguments::Placement, child::Child, exit::Exit, terminal::Terminal};

/// The signals by which the keyboard ends the foreground.
const KEYBOARD: [Signal; 2] = [Signal::INT, Signal::QUIT];

/// The command's place in the shell's job, of which the shell knows only this process.
///
/// The command has a process group of its own, so that signals reach all of it and nothing else.
/// Whatever the shell and the keyboard do to a job must therefore be done to the command here.
///
/// **Invariant:** this process stops only when its command has stopped before, and the command is
/// continued only under a valid lock. A stopped process renews nothing.
#[derive(Debug)]
pub(crate) struct Job {
    terminal: Option<Terminal>,
    own_group: Pid,
    command_in_foreground: bool,
}

impl Job {
    pub(crate) fn new() -> Self {
        Self { terminal: Terminal::open(), own_group: getpgrp(), command_in_foreground: false }
    }

    /// Returns where the command begins: in the foreground if this process is there and is not one
    /// of several programs of a pipeline, which may want the terminal too.
    pub(crate) fn placement(&mut self) -> Placement {
        let streams = stdin().is_terminal() && stdout().is_terminal();
        self.command_in_foreground = streams && self.has_terminal();
        if self.command_in_foreground { Placement::Foreground } else { Placement::Background }
    }

    /// Follows a command that was stopped by `signal`; returns whether to [resume](Self::resume)
    /// it.
    pub(crate) async fn follow(&mut self, command: &Child, signal: Signal) -> Next {
        // SIGSTOP is meant for the command alone. Without a terminal there is no job control. In
        // both cases the lock is kept until the command is continued.
        let Some(terminal) = self.terminal.as_ref().filter(|_| signal != Signal::STOP) else {
            return Next::StayStopped;
        };
        if signal != Signal::TSTP && self.has_terminal() {
            // It was stopped because it wants the terminal, and the terminal is available.
            self.command_in_foreground = true;
            return Next::Resume;
        }
        if terminal.is_with(command.group()) {
            terminal.give_to(self.own_group);
        }
        self.stop().await;
        Next::Resume
    }

    /// Stops this process and all others of its job; returns when this process is continued.
    async fn stop(&self) {
        // One of the signals that the kernel discards if no shell is left to continue the group.
        // TSTP would work too, but is caught; after STOP no process could continue this one.
        let _ = kill_current_process_group(Signal::TTOU);
        // If it was discarded, a command that requests the terminal in vain must not spin.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    /// Continues the command, in the foreground if it was there and the terminal is available to
    /// us.
    pub(crate) fn resume(&self, command: &Child) {
        if let Some(terminal) =
            self.terminal.as_ref().filter(|_| self.command_in_foreground && self.has_terminal())
        {
            terminal.give_to(command.group());
        }
        command.signal(Signal::CONT);
    }

    /// Takes the terminal back from a command that has ended; returns how the program exits then.
    pub(crate) fn finish(&self, command: &Child, exit: Exit) -> Exit {
        let Some(terminal) = self.terminal.as_ref().filter(|tty| tty.is_with(command.group()))
        else {
            return exit;
        };
        terminal.give_to(self.own_group);
        match exit {
            // Keyboard signals reach only the foreground.
            Exit::Signal(signal) if KEYBOARD.iter().any(|key| key.as_raw() == signal) => {
                Exit::JobSignal(signal)
            }
            exit => exit,
        }
    }

    fn has_terminal(&self) -> bool {
        self.terminal.as_ref().is_some_and(|terminal| terminal.is_with(self.own_group))
    }
}

/// What to do with a command that was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Resume,
    StayStopped,
}
