//! Commands that use the terminal, under a shell with job control on a separate terminal. Requires
//! `bash`, and `script` of util-linux.

use std::process::Command;

use crate::sandbox::{Running, Sandbox, assert_code, stdout};

/// Runs a script in a shell with job control, on a terminal that `script` creates.
fn on_a_terminal(sandbox: &Sandbox, shell_script: &str) -> String {
    let output = start_on_a_terminal(sandbox, shell_script).wait();
    assert_code(&output, 0);
    stdout(&output).replace('\r', "")
}

fn start_on_a_terminal(sandbox: &Sandbox, shell_script: &str) -> Running {
    let run = sandbox.program("run");
    let words = run.get_args().map(|word| word.to_str().unwrap());
    let run = [run.get_program().to_str().unwrap()].into_iter().chain(words).collect::<Vec<_>>();
    std::fs::write(sandbox.path("job.sh"), shell_script).unwrap();
    let mut terminal = Command::new("script");
    terminal.current_dir(sandbox.path("")).env("RUN", run.join(" "));
    terminal.args(["--quiet", "--return", "--command", "bash -m job.sh", "/dev/null"]);
    Running::start(&mut terminal)
}

#[test]
fn an_interrupt_from_the_keyboard_ends_a_loop_of_the_shell_and_not_only_one_iteration() {
    // With job control as at a prompt, and without as in a script, whose shell is in the same job.
    for job_control in ["set -m", "set +m"] {
        let sandbox = Sandbox::new();
        let script = format!(
            "{job_control}; for round in 1 2 3; do echo round $round; \
             $RUN -- sh -c 'echo ready; exec sleep 600'; done; echo after"
        );
        let mut running = start_on_a_terminal(&sandbox, &script);
        assert_eq!([running.read_line(), running.read_line()], ["round 1", "ready"]);
        running.write_stdin("\u{3}");
        let output = running.wait();
        let rest = stdout(&output);
        assert!(!rest.contains("round") && !rest.contains("after"), "{job_control}: {rest}");
        assert_code(&sandbox.run(&["--no-wait"], "true").output().unwrap(), 0);
    }
}

#[test]
fn the_command_is_in_the_foreground_and_the_shell_is_afterwards() {
    let sandbox = Sandbox::new();
    // The fifth field is the process group, the eighth that in the terminal's foreground.
    let look = "read _ _ _ _ group _ _ front _ < /proc/$$/stat; echo $1 $((group == front))";
    std::fs::write(sandbox.path("look.sh"), look).unwrap();
    // Without job control, because otherwise the shell would take the terminal back by itself.
    let script = "set +m; $RUN -- sh look.sh during; sh look.sh after";
    assert_eq!(on_a_terminal(&sandbox, script), "during 1\nafter 1");
}

#[test]
fn a_command_that_is_stopped_from_the_keyboard_returns_to_the_shell_and_can_be_continued() {
    let sandbox = Sandbox::new();
    // The signal that the keyboard would send to the foreground.
    let script = "$RUN -- sh -c 'kill -TSTP 0; echo resumed; exit 3'; echo \"stopped $?\"; fg; \
                  echo \"ended $?\"";
    let output = on_a_terminal(&sandbox, script);
    let position = |word| output.find(word).unwrap_or_else(|| panic!("no {word:?} in {output}"));
    assert!(position("stopped 150") < position("resumed"), "{output}");
    assert!(position("resumed") < position("ended 3"), "{output}");
}

#[test]
fn a_command_that_was_stopped_past_its_ttl_is_ended_and_not_continued() {
    let sandbox = Sandbox::new();
    let script = "$RUN --ttl 300ms -- sh -c 'kill -TSTP 0; touch resumed'; \
                  $RUN --wait 60s -- true; fg; echo \"ended $?\"";
    let output = on_a_terminal(&sandbox, script);
    assert!(output.contains("ended 76"), "{output}");
    assert!(!sandbox.path("resumed").exists());
}

#[test]
fn a_command_in_the_background_of_a_pipeline_may_still_use_the_terminal() {
    let sandbox = Sandbox::new();
    // Changing the terminal is forbidden in the background, as reading is, and requires no input.
    let script = "$RUN -- sh -c 'stty -echo < /dev/tty; stty echo < /dev/tty; echo set' | cat; \
                  echo \"ended ${PIPESTATUS[0]}\"";
    let output = on_a_terminal(&sandbox, script);
    assert!(output.contains("set\n") && output.contains("ended 0"), "{output}");
}

#[test]
fn the_holder_is_shown_while_the_lock_is_waited_for_and_vanishes_before_the_command_runs() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&["--owner", "ci-7", "--ttl", "1h"]);
    let shown = sandbox.path("shown");
    let script = "$RUN --wait forever -- echo ran 2>&1 | tee shown; echo \"ended $?\"";
    // The pipe is no terminal, so nothing is shown in it.
    let piped = start_on_a_terminal(&sandbox, script);
    let other = Sandbox::new();
    let other_holder = other.hold(&["--owner", "ci-8", "--ttl", "1h"]);
    let script = "stty cols 100; $RUN --wait forever -- echo ran";
    let mut direct = start_on_a_terminal(&other, script);
    let line = direct.read_until(b'9');
    let expected = "syncguard: waiting for \"nightly-report\", held by \"ci-8\" under fence \
                    000000000000001 for another 59";
    assert!(line.ends_with(expected), "{line:?}");
    assert_code(&other_holder.finish(), 0);
    let rest = direct.wait();
    let rest = stdout(&rest);
    // The line is erased before the command prints its own.
    assert!(rest.ends_with("\r\u{1b}[Kran"), "{rest:?}");
    assert_code(&holder.finish(), 0);
    assert!(stdout(&piped.wait()).contains("ended 0"));
    assert_eq!(std::fs::read_to_string(shown).unwrap(), "ran\n");
}

#[test]
fn nothing_is_shown_on_a_narrow_terminal_that_does_not_fit_into_one_line() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&["--owner", "ci-7"]);
    let script = "stty cols 30; $RUN --wait forever -- echo ran";
    let mut running = start_on_a_terminal(&sandbox, script);
    assert_eq!(running.read_until(b'i'), "syncguard: wai");
    assert_code(&holder.finish(), 0);
    let output = running.wait();
    assert_eq!(stdout(&output).split('\r').next(), Some("ting for \"night"));
}
