//! A handle on a child process: line-based input and output, stopping and killing.

use std::{
    io::{self, BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// A child process that reads lines from its standard input and writes lines to its standard
/// output. Dropping the handle kills it.
///
/// No signal reaches another process: a child keeps its pid until it is waited for, and only this
/// handle waits for it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Process {
    /// Starts the process.
    ///
    /// # Errors
    ///
    /// The error of starting it.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let piped = |missing: &str| io::Error::other(format!("the process has no {missing}"));
        let input = child.stdin.take();
        let output = child.stdout.take().ok_or_else(|| piped("standard output"))?;
        Ok(Self { child, input, output: BufReader::new(output) })
    }

    /// Writes a line to the standard input. Also works if the process is stopped: it reads the line
    /// after it is resumed.
    ///
    /// # Errors
    ///
    /// [`BrokenPipe`](io::ErrorKind::BrokenPipe) if the other end of the pipe is closed.
    pub fn write_line(&mut self, line: &str) -> io::Result<()> {
        let input = self.input.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        input.write_all(format!("{line}\n").as_bytes())
    }

    /// Waits for the next line of the standard output.
    ///
    /// # Errors
    ///
    /// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) if the process exits without one.
    pub fn read_line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.output.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }

    /// Kills the process (SIGKILL) and waits until it has exited.
    ///
    /// # Errors
    ///
    /// The error of sending the signal.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        self.child.kill()?;
        self.child.wait()
    }

    /// Stops the process (SIGSTOP) and waits until it has stopped.
    ///
    /// # Errors
    ///
    /// The error of sending the signal or of waiting for the stop.
    pub fn stop(&mut self) -> io::Result<()> {
        kill_process(self.pid()?, Signal::STOP)?;
        self.wait_for_stop(WaitIdOptions::empty())?;
        Ok(())
    }

    /// Returns whether the process is stopped.
    ///
    /// # Errors
    ///
    /// The error of reading the state of the process.
    pub fn is_stopped(&mut self) -> io::Result<bool> {
        self.wait_for_stop(WaitIdOptions::NOHANG)
    }

    /// Resumes the process (SIGCONT).
    ///
    /// # Errors
    ///
    /// The error of sending the signal.
    pub fn resume(&mut self) -> io::Result<()> {
        Ok(kill_process(self.pid()?, Signal::CONT)?)
    }

    /// Closes the standard input, without waiting until the process exits.
    pub fn close_input(&mut self) {
        drop(self.input.take());
    }

    /// Closes the standard input and waits until the process exits.
    ///
    /// # Errors
    ///
    /// The error of waiting for the exit.
    pub fn finish(mut self) -> io::Result<ExitStatus> {
        self.close_input();
        self.child.wait()
    }

    /// Returns the pid, which the kernel does not reuse until the process was waited for.
    fn pid(&mut self) -> io::Result<Pid> {
        match self.child.try_wait()? {
            Some(status) => Err(io::Error::other(format!("it has ended: {status}"))),
            None => Ok(Pid::from_child(&self.child)),
        }
    }

    /// Waits for the stop without consuming the notification of it.
    fn wait_for_stop(&mut self, options: WaitIdOptions) -> io::Result<bool> {
        let options = options | WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT;
        Ok(waitid(WaitId::Pid(self.pid()?), options)?.is_some_and(|status| status.stopped()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process may have exited already. If not, there is no caller to return the error to.
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

    /// Writes a line and reads it back, which proves that the process runs.
    fn echo(process: &mut Process) {
        process.write_line("hello").unwrap();
        assert_eq!(process.read_line().unwrap(), "hello");
    }

    #[test]
    fn lines_pass_both_ways_and_the_process_exits_at_the_end_of_its_input() {
        let mut process = cat();
        echo(&mut process);
        echo(&mut process);
        assert!(process.finish().unwrap().success());
    }

    #[test]
    fn reading_from_a_process_that_exited_is_an_unexpected_eof() {
        let mut process = Process::start(&mut Command::new("true")).unwrap();
        assert_eq!(process.read_line().unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_stopped_process_does_nothing_until_it_is_resumed() {
        let mut process = cat();
        echo(&mut process);
        assert!(!process.is_stopped().unwrap());
        process.stop().unwrap();
        assert!(process.is_stopped().unwrap());
        process.write_line("late").unwrap();
        assert!(process.is_stopped().unwrap());
        process.resume().unwrap();
        assert_eq!(process.read_line().unwrap(), "late");
        assert!(!process.is_stopped().unwrap());
    }

    #[test]
    fn kill_ends_a_process_by_the_signal_even_if_it_was_stopped() {
        for stopped in [false, true] {
            let mut process = cat();
            if stopped {
                process.stop().unwrap();
            }
            assert_eq!(process.kill().unwrap().signal(), Some(9));
            assert!(process.read_line().is_err());
        }
    }

    #[test]
    fn no_signal_is_sent_to_the_pid_of_a_process_that_has_exited() {
        let mut process = cat();
        process.kill().unwrap();
        assert!(process.stop().is_err() && process.resume().is_err());
    }

    #[test]
    #[cfg_attr(not(target_os = "linux"), ignore = "looks at /proc")]
    fn a_dropped_process_no_longer_exists() {
        let mut process = cat();
        echo(&mut process);
        let entry = format!("/proc/{}", process.child.id());
        assert!(fs::exists(&entry).unwrap());
        drop(process);
        assert!(!Path::new(&entry).exists());
    }
}
