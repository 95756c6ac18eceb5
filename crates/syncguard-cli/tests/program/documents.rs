//! What the program knows of itself.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use syncguard::LockKey;

use crate::sandbox::{KEY, Sandbox, assert_code, program, stdout};

#[test]
fn the_hash_of_a_key_is_the_one_in_the_logs_of_services() {
    let output = program().args(["hash", KEY]).output().unwrap();
    assert_code(&output, 0);
    assert_eq!(stdout(&output), LockKey::new(KEY).unwrap().display_hash().to_string());
    let output = program().args(["hash", "payment:123"]).output().unwrap();
    assert_eq!(stdout(&output), "a422dabee27fcc7ad506f372");
}

#[test]
fn the_completions_of_bash_know_subcommands_and_options() {
    let sandbox = Sandbox::new();
    let script = sandbox.path("completions");
    for shell in ["bash", "zsh", "fish"] {
        let output = program().args(["completions", shell]).output().unwrap();
        assert_code(&output, 0);
        let text = stdout(&output);
        assert!(text.contains("conflict-exit-code") && !text.contains("parent"), "{shell}");
        if shell == "bash" {
            fs::write(&script, text).unwrap();
        }
    }
    let complete = |words: &str, last: usize| {
        let shell = format!(
            "source {}; COMP_WORDS=({words}); COMP_CWORD={last}; \
             _syncguard syncguard \"${{COMP_WORDS[{last}]}}\" \"${{COMP_WORDS[{last} - 1]}}\"; \
             echo \"${{COMPREPLY[@]}}\"",
            script.display()
        );
        let output = Command::new("bash").args(["-c", &shell]).output().unwrap();
        stdout(&output).to_owned()
    };
    assert_eq!(complete("syncguard st", 1), "status");
    assert_eq!(complete("syncguard run --conf", 2), "--conflict-exit-code");
    assert_eq!(complete("syncguard lau", 1), "");
}

/// Reads all files of a directory.
fn files(directory: &Path) -> BTreeMap<String, String> {
    let files = fs::read_dir(directory).unwrap().map(|file| {
        let file = file.unwrap();
        (file.file_name().into_string().unwrap(), fs::read_to_string(file.path()).unwrap())
    });
    files.collect()
}

/// If this fails, run `syncguard man crates/syncguard-cli/man`.
#[test]
fn the_packaged_manual_pages_are_those_of_the_program() {
    let sandbox = Sandbox::new();
    let directory = sandbox.path("man1");
    fs::create_dir(&directory).unwrap();
    let output = program().arg("man").arg(&directory).output().unwrap();
    assert_code(&output, 0);
    let written = files(&directory);
    assert!(written["syncguard-run.1"].contains("SYNCGUARD_FENCE_NUMBER"));
    assert!(!written.contains_key("syncguard-launch.1"));
    let packaged = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("man"));
    assert!(written.keys().eq(packaged.keys()), "{:?}", packaged.keys());
    for (name, text) in &packaged {
        assert!(written[name] == *text, "{name} is out of date");
    }
}

#[test]
fn a_directory_that_does_not_exist_takes_no_manual_pages() {
    let sandbox = Sandbox::new();
    let output = program().arg("man").arg(sandbox.path("absent")).output().unwrap();
    assert_code(&output, 74);
}
