//! What takes a process of its own: this test binary, started again to run one ignored test.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdout, Command, Stdio},
};

use syncguard_core::LockBackend;
use syncguard_sqlite::SqliteBackend;

use crate::{Scratch, granted, key, pass, release, request};

const FILE: &str = "SYNCGUARD_SQLITE_TEST_FILE";
const KEY: &str = "SYNCGUARD_SQLITE_TEST_KEY";

/// A process that waits for a line, opens the file, and says which fences it was granted.
struct Process {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(scratch: &Scratch, role: &str, key: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "--nocapture", role])
            .env(FILE, scratch.path())
            .env(KEY, key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut process = Self { child, output };
        process.said("ready");
        process
    }

    fn go(&mut self) {
        writeln!(self.child.stdin.as_mut().unwrap(), "go").unwrap();
    }

    /// Reads on until a line that has `word` in it, and gives what follows the word.
    fn said(&mut self, word: &str) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(
                self.output.read_line(&mut line).unwrap(),
                0,
                "the process never said {word}"
            );
            if let Some((_, rest)) = line.split_once(word) {
                return rest.trim().to_owned();
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the parent gave to this process, `None` where it has no parent of this kind.
fn part() -> Option<(std::path::PathBuf, String)> {
    let part = (std::env::var_os(FILE)?.into(), std::env::var(KEY).ok()?);
    say("ready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    Some(part)
}

fn say(line: &str) {
    writeln!(std::io::stdout().lock(), "{line}").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a process that others start"]
async fn pass_once() {
    let Some((file, key)) = part() else { return };
    let backend = SqliteBackend::open(file).await.unwrap();
    say(&format!("fence {}", pass(&backend, &key).await));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a process that others start"]
async fn pass_until_killed() {
    let Some((file, key)) = part() else { return };
    let backend = SqliteBackend::open(file).await.unwrap();
    loop {
        let request = request(&key);
        let fence = granted(&backend, &request).await.fence.number();
        say(&format!("fence {fence}"));
        release(&backend, &request).await;
    }
}

#[tokio::test]
async fn many_processes_may_open_a_fresh_file_at_once() {
    let scratch = Scratch::new();
    let start = |number| Process::start(&scratch, "processes::pass_once", &format!("key-{number}"));
    let mut processes: Vec<_> = (0..8).map(start).collect();
    processes.iter_mut().for_each(Process::go);
    for process in &mut processes {
        assert_eq!(process.said("fence "), "1");
    }
    let mut foreign = scratch.foreign().await;
    assert_eq!(foreign.number("SELECT count(*) FROM syncguard_locks").await, 8);
}

#[tokio::test]
async fn the_counter_outlives_processes_that_are_killed_while_they_write() {
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    let mut last = 0;
    for round in 0..5 {
        let mut process = Process::start(&scratch, "processes::pass_until_killed", "key");
        process.go();
        for _ in 0..=round * 10 {
            let fence: u64 = process.said("fence ").parse().unwrap();
            assert!(fence > last, "{fence} after {last}");
            last = fence;
        }
        drop(process);
        // The process may have died as the holder, and with a grant that it never told of.
        backend.force_release(&key("key")).await.unwrap();
        let fence = pass(&backend, "key").await;
        assert!(fence > last, "{fence} after {last}");
        last = fence;
    }
    let mut foreign = scratch.foreign().await;
    let damage = "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'";
    assert_eq!(foreign.number(damage).await, 0);
}
