//! A wall clock for servers that jumps on command.

use std::{
    env,
    ffi::OsString,
    fmt::{self, Debug, Formatter},
    fs::{self, File, Permissions},
    io,
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tempfile::{NamedTempFile, TempDir};
use thiserror::Error;

use crate::{
    cache::WeakCell,
    find::{Executable, Missing},
    server::{ServerError, call},
};

const SOURCE: &str = include_str!("../shim/clock_shim.c");

/// The wall clock of every server that was started with [`env`](Self::env). It jumps on command;
/// monotonic clocks are not affected. Requires Linux and a C compiler.
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
/// use syncguard_testkit::{clock::{ClockShim, Jump}, server::RedisServer};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let clock = ClockShim::build().await?;
/// let redis = RedisServer::builder().envs(clock.env()).start().await?;
/// clock.step(Duration::from_secs(31), Jump::Forward)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ClockShim {
    library: Arc<Library>,
    shift: NamedTempFile,
    milliseconds: Mutex<i64>,
}

/// The direction of a jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jump {
    /// Into the future.
    Forward,
    /// Into the past.
    Back,
}

/// The reason why the shim is not available.
#[derive(Error)]
#[non_exhaustive]
pub enum ClockError {
    /// Only Linux preloads libraries in this way.
    #[error("a server's clock can be shifted on Linux alone")]
    NotLinux,

    /// There is no C compiler.
    #[error(
        "the shim under a server's clock is compiled from C, but {0}\n  - or set CC to a compiler"
    )]
    NoCompiler(#[from] Missing),

    /// The compiler failed.
    #[error("the shim under a server's clock could not be compiled: {0}")]
    NotCompiled(#[source] ServerError),

    /// A file could not be written.
    #[error("a file of the shim under a server's clock could not be written: {0}")]
    File(#[from] io::Error),
}

// A test that unwraps an error shows its `Debug` form.
impl Debug for ClockError {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl ClockShim {
    /// Creates a clock. Compiles the shim, unless another clock of this process uses it already.
    ///
    /// # Errors
    ///
    /// [`ClockError`].
    pub async fn build() -> Result<Self, ClockError> {
        static LIBRARY: WeakCell<Library> = WeakCell::new();
        if !cfg!(target_os = "linux") {
            return Err(ClockError::NotLinux);
        }
        let library = LIBRARY.get_or_try_init(Library::compile()).await?;
        let shift = NamedTempFile::with_prefix_in("shift-", library.directory.path())?;
        set_mode(shift.path(), 0o644)?;
        shift.as_file().write_all_at(&0_i64.to_ne_bytes(), 0)?;
        Ok(Self { library, shift, milliseconds: Mutex::new(0) })
    }

    /// Returns the environment variables that make a server use this clock.
    #[must_use]
    pub fn env(&self) -> [(&'static str, OsString); 2] {
        [("LD_PRELOAD", self.library.path().into()), ("CLOCK_SHIM", self.shift.path().into())]
    }

    /// Makes the clock jump relative to its current time, in whole milliseconds.
    ///
    /// # Errors
    ///
    /// If the shift cannot be written or does not fit the clock.
    pub fn step(&self, by: Duration, jump: Jump) -> io::Result<()> {
        let too_far = |_| io::Error::other("the jump is too long");
        let by = i64::try_from(by.as_millis()).map_err(too_far)?;
        let mut milliseconds = self.milliseconds.lock().unwrap_or_else(PoisonError::into_inner);
        let shifted = match jump {
            Jump::Forward => milliseconds.saturating_add(by),
            Jump::Back => milliseconds.saturating_sub(by),
        };
        self.write(shifted)?;
        *milliseconds = shifted;
        Ok(())
    }

    // A single write of eight bytes: the server has mapped the file and sees the whole value at
    // once.
    fn write(&self, milliseconds: i64) -> io::Result<()> {
        let file: &File = self.shift.as_file();
        file.write_all_at(&milliseconds.to_ne_bytes(), 0)
    }
}

/// The compiled shim.
#[derive(Debug)]
struct Library {
    directory: TempDir,
}

impl Library {
    async fn compile() -> Result<Self, ClockError> {
        let directory = TempDir::with_prefix("syncguard-clock-")?;
        set_mode(directory.path(), 0o755)?;
        let library = Self { directory };
        let source = library.file("clock_shim.c");
        fs::write(&source, SOURCE)?;
        let mut compile = Command::new(compiler()?);
        compile
            .args(["-std=gnu11", "-O2", "-shared", "-fPIC", "-o"])
            .arg(library.path())
            .arg(&source);
        call(compile).await.map_err(ClockError::NotCompiled)?;
        set_mode(&library.path(), 0o644)?;
        Ok(library)
    }

    fn path(&self) -> PathBuf {
        self.file("clock_shim.so")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

fn compiler() -> Result<PathBuf, Missing> {
    let named = env::var_os("CC").filter(|name| !name.is_empty());
    named.map_or_else(|| Executable::CC.find(), |name| Ok(Path::new(&name).to_owned()))
}

// A server may run as another user, who must be able to read the file whatever the umask is.
fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}
