//! Runs Google's own clients on Node, for tests that compare with them.

use std::{
    env, fs,
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    process::Output,
};

use tokio::process::Command;

use crate::find::Executable;

/// The name in `SYNCGUARD_SKIP` for the tests that need Node.
const SKIP_NAME: &str = "node";

/// Packages for Node, installed from a lock file.
#[derive(Clone, Debug)]
pub struct Node {
    program: PathBuf,
    packages: PathBuf,
}

impl Node {
    /// Installs the packages that `package.json` and `package-lock.json` in `files` name into a
    /// directory below `target`, unless they are installed already.
    ///
    /// # Errors
    ///
    /// If Node or npm is missing, or npm fails; the message names the remedy.
    pub async fn install(files: &Path, target: &Path) -> io::Result<Self> {
        let program = find(Executable::NODE)?;
        let (files, packages) = (files.to_owned(), target.join("node"));
        let install = {
            let packages = packages.clone();
            move || install(&files, &packages)
        };
        tokio::task::spawn_blocking(install).await.map_err(io::Error::other)??;
        Ok(Self { program, packages })
    }

    /// Returns a command that runs a script with these packages.
    ///
    /// # Errors
    ///
    /// If the script cannot be opened.
    pub fn command(&self, script: &Path) -> io::Result<Command> {
        let mut node = Command::new(&self.program);
        // A module that is read from the standard input resolves packages in the working directory.
        node.args(["--input-type=module", "-"]).current_dir(&self.packages);
        node.stdin(File::open(script)?).kill_on_drop(true);
        Ok(node)
    }
}

/// Returns the standard output of a command.
///
/// # Errors
///
/// If the command failed, with its standard output and standard error.
pub fn stdout_of(what: &str, output: &Output) -> io::Result<String> {
    let [stdout, stderr] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    if output.status.success() {
        return Ok(stdout.trim().to_owned());
    }
    Err(io::Error::other(format!("{what}: {}\n{stdout}\n{stderr}", output.status)))
}

/// Runs a test, unless `SYNCGUARD_SKIP` names Node. Either outcome is appended to the report of the
/// contract cases, so that skipped tests are counted.
///
/// # Errors
///
/// If the report cannot be written.
pub async fn unless_skipped(
    suite: &str,
    case: &str,
    test: impl Future<Output = ()>,
) -> io::Result<()> {
    let skipped = env::var("SYNCGUARD_SKIP").unwrap_or_default();
    let outcome = if skipped.split(',').any(|name| name.trim() == SKIP_NAME) {
        "skipped\tSYNCGUARD_SKIP names node"
    } else {
        test.await;
        "passed\t"
    };
    let Some(path) = env::var_os("SYNCGUARD_CONTRACT_REPORT") else {
        return Ok(());
    };
    let mut report = File::options().append(true).create(true).open(path)?;
    report.write_all(format!("{suite}\t{case}\t{outcome}\n").as_bytes())
}

fn find(program: Executable) -> io::Result<PathBuf> {
    program.find().map_err(|missing| {
        io::Error::other(format!(
            "{missing}\nnode and npm together: `apt-get install nodejs npm`; \
             without them: SYNCGUARD_SKIP={SKIP_NAME}"
        ))
    })
}

fn install(files: &Path, packages: &Path) -> io::Result<()> {
    fs::create_dir_all(packages)?;
    // Each test runs in its own process: the first one installs, and the others wait for it.
    let install_lock = File::create(packages.join("turn"))?;
    install_lock.lock()?;
    let lock_file = fs::read(files.join("package-lock.json"))?;
    let stamp = packages.join("installed");
    if fs::read(&stamp).is_ok_and(|installed| installed == lock_file) {
        return Ok(());
    }
    for file in ["package.json", "package-lock.json"] {
        fs::copy(files.join(file), packages.join(file))?;
    }
    let mut npm = std::process::Command::new(find(Executable::NPM)?);
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(packages);
    stdout_of("npm ci", &npm.output()?)?;
    fs::write(stamp, lock_file)
}
