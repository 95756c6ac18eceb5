//! The environment of the command, and that of the program.

use std::{fs, os::unix::fs::PermissionsExt};

use syncguard::LockId;

use crate::sandbox::{KEY, Running, Sandbox, assert_code, lookup, program, stdout};

#[tokio::test]
async fn the_command_finds_its_key_fence_and_lock_id() {
    let sandbox = Sandbox::new();
    let script = "echo $SYNCGUARD_KEY $SYNCGUARD_FENCE $SYNCGUARD_LOCK_ID; read line; exit 0";
    let mut holder = Running::start(&mut sandbox.run(&[], script));
    let line = holder.read_line();
    let [key, fence, lock_id] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
    let record = lookup(&sandbox.locks().await).await.unwrap();
    assert_eq!((key, fence), (KEY, "000000000000001"));
    assert_eq!(lock_id.parse::<LockId>().unwrap(), record.lock_id);
    assert_code(&holder.finish(), 0);
}

#[test]
fn the_fence_is_a_plain_number_too_with_which_a_shell_can_calculate() {
    let sandbox = Sandbox::new();
    for fence in 1..=10_u32 {
        // In the text, 8 is not an octal number, and 10 is the octal number of 8.
        let script = "echo $SYNCGUARD_FENCE $((SYNCGUARD_FENCE_NUMBER + 1))";
        let output = sandbox.run(&[], script).output().unwrap();
        assert_code(&output, 0);
        assert_eq!(stdout(&output), format!("{fence:015} {}", fence + 1));
    }
    let script =
        "echo ${SYNCGUARD_FENCE_NUMBER-none} $SYNCGUARD_FENCE_NUMBER_1 $SYNCGUARD_FENCE_NUMBER_2";
    let output = sandbox.run(&["--key", "a"], script).output().unwrap();
    // The locks are taken in the order of the keys: "a" is the first, and new.
    assert_eq!(stdout(&output), "none 1 11");
}

#[test]
fn the_default_store_is_created_in_a_directory_that_only_the_user_may_read() {
    let sandbox = Sandbox::new();
    let (home, state) = (sandbox.path("home"), sandbox.path("state"));
    let run = |variables: [(&str, &std::path::Path); 2]| {
        let mut program = program();
        program.envs(variables).args(["run", "--key", KEY, "--", "true"]);
        assert_code(&program.output().unwrap(), 0);
    };
    run([("HOME", &home), ("XDG_STATE_HOME", &state)]);
    run([("HOME", &home), ("XDG_STATE_HOME", "relative".as_ref())]);
    for directory in [state.join("syncguard"), home.join(".local/state/syncguard")] {
        assert!(directory.join("locks.db").is_file());
        let mode = fs::metadata(directory).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}

#[test]
fn the_environment_names_the_store_unless_the_option_does() {
    let sandbox = Sandbox::new();
    let url = |name| format!("sqlite:{}", sandbox.path(name).display());
    let mut program = program();
    program.env("SYNCGUARD_STORE", url("variable.db")).args(["run", "--key", KEY, "--"]);
    assert_code(&program.arg("true").output().unwrap(), 0);
    assert!(sandbox.path("variable.db").is_file());

    let mut program = sandbox.run(&[], "true");
    assert_code(&program.env("SYNCGUARD_STORE", url("other.db")).output().unwrap(), 0);
    assert!(sandbox.store().is_file() && !sandbox.path("other.db").exists());
}

#[test]
fn the_command_inherits_the_url_of_the_store_unless_that_is_hidden() {
    let sandbox = Sandbox::new();
    let url = format!("sqlite:{}", sandbox.store().display());
    for (options, expected) in [(&[][..], &*url), (&["--hide-store"], "none")] {
        let mut program = program();
        program.env("SYNCGUARD_STORE", &url).args(["run", "--key", KEY]).args(options);
        program.args(["--", "sh", "-c", "echo ${SYNCGUARD_STORE-none} $SYNCGUARD_KEY"]);
        let output = program.output().unwrap();
        assert_code(&output, 0);
        assert_eq!(stdout(&output), format!("{expected} {KEY}"));
    }
}

#[test]
fn the_memory_store_excludes_no_other_process() {
    let run = ["run", "--key", KEY, "--store", "memory:", "--no-wait", "--"];
    let inner = format!("{} {} true && echo ran", env!("CARGO_BIN_EXE_syncguard"), run.join(" "));
    let output = program().args(run).args(["sh", "-c", &inner]).output().unwrap();
    assert_code(&output, 0);
    assert_eq!(stdout(&output), "ran");
}
