//! A handle on a process that is spoken to, stopped and killed.

use std::{
    io::{self, BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// A process that was started here: it is told things line by line on its standard input, and
/// tells things on its standard output. Dropped, it is killed.
///
/// No signal reaches a stranger: a child keeps its number until it is waited for, and that happens
/// here alone.
#[derive(Debug)]
pub struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Process {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// Why it could not be started.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let piped = |missing: &str| io::Error::other(format!("the process has no {missing}"));
        let input = child.stdin.take();
        let output = child.stdout.take().ok_or_else(|| piped("standard output"))?;
        Ok(Self { child, input, output: BufReader::new(output) })
    }

    /// Writes a line to its standard input. That it is stopped is no obstacle: it reads the line
    /// when it goes on.
    ///
    /// # Errors
    ///
    /// [`BrokenPipe`](io::ErrorKind::BrokenPipe) where nobody can read it any more.
    pub fn tell(&mut self, line: &str) -> io::Result<()> {
        let input = self.input.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        input.write_all(format!("{line}\n").as_bytes())
    }

    /// Waits for the next line of its standard output.
    ///
    /// # Errors
    ///
    /// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) where it ended without one.
    pub fn hear(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.output.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }

    /// Kills it as it stands (SIGKILL), and waits until it is dead.
    ///
    /// # Errors
    ///
    /// Why the signal could not be sent.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        self.child.kill()?;
        self.child.wait()
    }

    /// Stops it (SIGSTOP), and waits until it has stopped.
    ///
    /// # Errors
    ///
    /// Why it could not be stopped.
    pub fn stop(&mut self) -> io::Result<()> {
        kill_process(self.pid()?, Signal::STOP)?;
        self.stopped(WaitIdOptions::empty())?;
        Ok(())
    }

    /// Tells whether it is stopped.
    ///
    /// # Errors
    ///
    /// Why nothing is known of it.
    pub fn is_stopped(&mut self) -> io::Result<bool> {
        self.stopped(WaitIdOptions::NOHANG)
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Errors
    ///
    /// Why the signal could not be sent.
    pub fn resume(&mut self) -> io::Result<()> {
        Ok(kill_process(self.pid()?, Signal::CONT)?)
    }

    /// Closes its standard input and waits until it ends by itself.
    ///
    /// # Errors
    ///
    /// Why nothing is known of its end.
    pub fn finish(mut self) -> io::Result<ExitStatus> {
        drop(self.input.take());
        self.child.wait()
    }

    /// Gives its number, which is its own until its end was waited for.
    fn pid(&mut self) -> io::Result<Pid> {
        match self.child.try_wait()? {
            Some(status) => Err(io::Error::other(format!("it has ended: {status}"))),
            None => Ok(Pid::from_child(&self.child)),
        }
    }

    /// Looks for the stop without using up the news of it.
    fn stopped(&mut self, how: WaitIdOptions) -> io::Result<bool> {
        let how = how | WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT;
        Ok(waitid(WaitId::Pid(self.pid()?), how)?.is_some_and(|status| status.stopped()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be dead already. If not, there is nobody left to be told that it cannot be killed.
        let _ = self.kill();
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::ErrorKind, os::unix::process::ExitStatusExt, path::Path};

    use super::*;

    fn cat() -> Process {
        Process::start(&mut Command::new("cat")).unwrap()
    }

    /// Says a line and hears it back, which proves that it runs.
    fn echo(process: &mut Process) {
        process.tell("hello").unwrap();
        assert_eq!(process.hear().unwrap(), "hello");
    }

    #[test]
    fn lines_go_both_ways_and_the_end_of_input_ends_it() {
        let mut process = cat();
        echo(&mut process);
        echo(&mut process);
        assert!(process.finish().unwrap().success());
    }

    #[test]
    fn who_listens_to_a_process_that_ended_is_told() {
        let mut process = Process::start(&mut Command::new("true")).unwrap();
        assert_eq!(process.hear().unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_stopped_process_does_nothing_until_it_is_resumed() {
        let mut process = cat();
        echo(&mut process);
        assert!(!process.is_stopped().unwrap());
        process.stop().unwrap();
        assert!(process.is_stopped().unwrap());
        process.tell("late").unwrap();
        assert!(process.is_stopped().unwrap());
        process.resume().unwrap();
        assert_eq!(process.hear().unwrap(), "late");
        assert!(!process.is_stopped().unwrap());
    }

    #[test]
    fn a_killed_process_is_dead_by_the_signal_even_if_it_was_stopped() {
        for stopped in [false, true] {
            let mut process = cat();
            if stopped {
                process.stop().unwrap();
            }
            assert_eq!(process.kill().unwrap().signal(), Some(9));
            assert!(process.hear().is_err());
        }
    }

    #[test]
    fn no_signal_is_sent_to_the_number_of_a_process_that_has_ended() {
        let mut process = cat();
        process.kill().unwrap();
        assert!(process.stop().is_err() && process.resume().is_err());
    }

    #[test]
    #[cfg_attr(not(target_os = "linux"), ignore = "looks at /proc")]
    fn a_dropped_process_is_gone() {
        let mut process = cat();
        echo(&mut process);
        let traces = format!("/proc/{}", process.child.id());
        assert!(fs::exists(&traces).unwrap());
        drop(process);
        assert!(!Path::new(&traces).exists());
    }
}
