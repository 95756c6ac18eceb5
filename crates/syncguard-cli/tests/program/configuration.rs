//! The configuration file, and the environment.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use serde_json::{Value, json};

use crate::sandbox::{KEY, Running, Sandbox, assert_code, only_line, program, stdout};

/// Writes a configuration file with two stores.
fn configure(sandbox: &Sandbox, rest: &str) -> PathBuf {
    let url = |name| format!("sqlite:{}", sandbox.path(name).display());
    let text = format!(
        "{rest}\nowner = \"anyone\"\nttl = \"3h\"\n\
         [stores.jobs]\nurl = \"{}\"\nowner = \"jobber\"\nttl = \"2h\"\n\
         [stores.audit]\nurl = \"{}\"\n",
        url("jobs.db"),
        url("audit.db"),
    );
    let file = sandbox.path("config.toml");
    fs::write(&file, text).unwrap();
    file
}

fn configured(file: &PathBuf, arguments: &[&str]) -> Command {
    let mut program = program();
    program.env("SYNCGUARD_CONFIG", file).args(arguments);
    program
}

/// Runs a command that shows its own lock, and returns the owner and the hours that are left.
fn held(program: &mut Command) -> (Value, u64) {
    let script = format!("{} status --key {KEY} --json", env!("CARGO_BIN_EXE_syncguard"));
    let output = program.args(["--key", KEY, "-c", &script]).output().unwrap();
    assert_code(&output, 0);
    assert!(output.stderr.is_empty(), "{output:?}");
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    let hours = shown["remaining_ms"].as_u64().unwrap().div_ceil(3_600_000);
    (shown["owner"].clone(), hours)
}

#[test]
fn a_store_of_the_file_has_its_own_owner_and_ttl_and_others_have_those_of_the_file() {
    let sandbox = Sandbox::new();
    let file = configure(&sandbox, "default = \"audit\"");
    assert_eq!(held(&mut configured(&file, &["run"])), (json!("anyone"), 3));
    assert!(sandbox.path("audit.db").is_file() && !sandbox.path("jobs.db").exists());
    let jobs = || {
        let mut program = configured(&file, &["run"]);
        program.env("SYNCGUARD_STORE", "jobs");
        program
    };
    assert_eq!(held(&mut jobs()), (json!("jobber"), 2));
    assert!(sandbox.path("jobs.db").is_file());
    // The environment comes before the file, and the arguments before both.
    let environment = |program: &mut Command| {
        program.env("SYNCGUARD_OWNER", "env").env("SYNCGUARD_TTL", "4h");
    };
    let mut program = jobs();
    environment(&mut program);
    assert_eq!(held(&mut program), (json!("env"), 4));
    let mut program = jobs();
    environment(&mut program);
    program.args(["--owner", "me", "--ttl", "5h"]);
    assert_eq!(held(&mut program), (json!("me"), 5));
    // An empty variable is not set.
    let mut program = jobs();
    program.env("SYNCGUARD_OWNER", "").env("SYNCGUARD_TTL", "");
    assert_eq!(held(&mut program), (json!("jobber"), 2));
}

#[test]
fn the_option_selects_a_store_by_its_name_or_by_its_url() {
    let sandbox = Sandbox::new();
    let file = configure(&sandbox, "default = \"audit\"");
    let holder = ["run", "--key", KEY, "--store", "jobs", "-c", "echo held; read line; exit 0"];
    let mut holder = Running::start(&mut configured(&file, &holder));
    assert_eq!(holder.read_line(), "held");
    let status = |store: &[&str]| {
        let output = configured(&file, &[&["status", "--key", KEY], store].concat()).output();
        stdout(&output.unwrap()).to_owned()
    };
    assert!(status(&["--store", "jobs"]).starts_with("held by \"jobber\""));
    let url = format!("sqlite:{}", sandbox.path("jobs.db").display());
    assert!(status(&["--store", &url]).starts_with("held by \"jobber\""));
    assert_eq!(status(&[]), "free");
    assert_code(&holder.finish(), 0);
}

#[test]
fn the_file_is_looked_for_in_the_directory_of_the_user() {
    let sandbox = Sandbox::new();
    let file = configure(&sandbox, "default = \"audit\"");
    fs::create_dir_all(sandbox.path("home/.config/syncguard")).unwrap();
    fs::rename(file, sandbox.path("home/.config/syncguard/config.toml")).unwrap();
    let output =
        program().args(["status", "--key", KEY]).env("HOME", sandbox.path("home")).output();
    assert_code(&output.unwrap(), 0);
    assert!(sandbox.path("audit.db").is_file());
}

#[track_caller]
fn assert_refused(output: &Output, reasons: &[&str]) {
    assert_code(output, 64);
    let line = only_line(output);
    for reason in reasons {
        assert!(line.contains(reason), "{line}");
    }
    assert!(!line.contains("secret"), "{line}");
}

#[test]
fn a_file_that_cannot_be_used_is_refused_and_no_password_is_repeated() {
    let sandbox = Sandbox::new();
    let file = sandbox.path("config.toml");
    let status = ["status", "--key", KEY];
    assert_refused(&configured(&file, &status).output().unwrap(), &["config.toml", "No such file"]);
    for (text, reason) in [
        ("[stores.a]\nurl = \"redis://:secret@h\"\nowener = \"x\"", "owener"),
        ("[stores.a]\nurl = \"redis://:secret@h", "line 2: "),
        ("ttl = \"0s\"", "line 1: ttl 0s is not"),
        ("\ndefualt = \"a\"", "line 2: unknown field `defualt`"),
    ] {
        fs::write(&file, text).unwrap();
        assert_refused(&configured(&file, &status).output().unwrap(), &["config.toml", reason]);
    }
    let file = configure(&sandbox, "");
    let mut unknown = configured(&file, &[&status[..], &["--store", "jbos"]].concat());
    let output = unknown.output().unwrap();
    assert_refused(&output, &["no store is named \"jbos\"", "audit, jobs"]);
    let output = program().args(status).args(["--store", "jobs"]).output().unwrap();
    assert_refused(&output, &["no configuration file names stores"]);
    let mut program = configured(&file, &["run", "--key", KEY, "-c", "true"]);
    let output = program.env("SYNCGUARD_TTL", "soon").output().unwrap();
    assert_refused(&output, &["the variable SYNCGUARD_TTL", "\"soon\""]);
}
