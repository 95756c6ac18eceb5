//! Google's own clients on Node, for the tests that compare with them.

use std::{
    env, fs,
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    process::Output,
};

use tokio::process::Command;

use crate::find::Executable;

/// What `SYNCGUARD_SKIP` calls the tests that need Node.
const SKIPPED_AS: &str = "node";

/// Packages for Node, installed from a lock file.
#[derive(Clone, Debug)]
pub struct Node {
    program: PathBuf,
    packages: PathBuf,
}

impl Node {
    /// Installs what `package.json` and `package-lock.json` in `files` name into a directory below
    /// `target`, unless it is there.
    ///
    /// # Errors
    ///
    /// Where Node or npm is missing, or npm fails; the text says what to do.
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

    /// Gives a command that runs a script with these packages.
    ///
    /// # Errors
    ///
    /// Where the script cannot be opened.
    pub fn command(&self, script: &Path) -> io::Result<Command> {
        let mut node = Command::new(&self.program);
        // A module that is read from the input finds its packages where the program was started.
        node.args(["--input-type=module", "-"]).current_dir(&self.packages);
        node.stdin(File::open(script)?).kill_on_drop(true);
        Ok(node)
    }
}

/// Gives what a command has printed.
///
/// # Errors
///
/// Where it failed, with all that it said.
pub fn printed(what: &str, output: &Output) -> io::Result<String> {
    let [printed, complaints] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    if output.status.success() {
        return Ok(printed.trim().to_owned());
    }
    Err(io::Error::other(format!("{what}: {}\n{printed}\n{complaints}", output.status)))
}

/// Runs a test, unless whoever runs the tests wants to do without Node. Either is reported where the
/// cases of the contract are, so that what was left out is counted.
///
/// # Errors
///
/// Where the report cannot be written.
pub async fn unless_skipped(
    suite: &str,
    case: &str,
    test: impl Future<Output = ()>,
) -> io::Result<()> {
    let skipped = env::var("SYNCGUARD_SKIP").unwrap_or_default();
    let verdict = if skipped.split(',').any(|name| name.trim() == SKIPPED_AS) {
        "skipped\tSYNCGUARD_SKIP names node"
    } else {
        test.await;
        "passed\t"
    };
    let Some(path) = env::var_os("SYNCGUARD_CONTRACT_REPORT") else {
        return Ok(());
    };
    let mut report = File::options().append(true).create(true).open(path)?;
    report.write_all(format!("{suite}\t{case}\t{verdict}\n").as_bytes())
}

fn find(program: Executable) -> io::Result<PathBuf> {
    program.find().map_err(|missing| {
        io::Error::other(format!(
            "{missing}\nnode and npm together: `apt-get install nodejs npm`; \
             without them: SYNCGUARD_SKIP={SKIPPED_AS}"
        ))
    })
}

fn install(files: &Path, packages: &Path) -> io::Result<()> {
    fs::create_dir_all(packages)?;
    // Tests run in processes of their own: the first one installs, and the others wait for it.
    let turn = File::create(packages.join("turn"))?;
    turn.lock()?;
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
    printed("npm ci", &npm.output()?)?;
    fs::write(stamp, lock_file)
}
