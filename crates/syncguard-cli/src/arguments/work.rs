use std::ffi::OsString;

use clap::Args;
use syncguard::{Owner, Ttl, backend::Counters};

use super::Store;
use crate::verbosity::Verbosity;

/// A command, and how it is run under a lock.
#[derive(Debug, Args)]
pub(crate) struct Work {
    /// How long the lock outlives syncguard, should it die [env: SYNCGUARD_TTL] [default: 30s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) ttl: Option<Ttl>,

    /// Who you are, for others who want the lock [env: SYNCGUARD_OWNER] [default: host:pid]
    #[arg(long, value_name = "LABEL")]
    pub(crate) owner: Option<Owner>,

    /// Remove SYNCGUARD_STORE from the environment of the command
    ///
    /// The URL of the store may have a password, which a command may log with the rest of its
    /// environment. This does not protect against a command that looks for it: it runs as the same
    /// user, who can read the environment of syncguard.
    #[arg(long)]
    pub(crate) hide_store: bool,

    /// Make the fence at least the time of the store, so that `prune` can delete its counter later
    ///
    /// All who use the store must do so. Services set `seed_new_counters`.
    #[arg(long)]
    seed_new_counters: bool,

    /// Print no warnings, such as those about settings of the store
    ///
    /// Use it where each line is sent as a mail, as cron does. Errors are printed nevertheless.
    #[arg(long, short, conflicts_with = "verbose")]
    quiet: bool,

    /// Print what happens, and when
    #[arg(long, short)]
    verbose: bool,

    #[command(flatten)]
    pub(crate) store: Store,

    /// Run this text by `sh -c` instead of a command
    #[arg(short = 'c', value_name = "TEXT", conflicts_with = "command")]
    shell_text: Option<OsString>,

    /// The command and its arguments
    #[arg(last = true, required_unless_present = "shell_text", value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Work {
    pub(crate) fn ttl(&self) -> Ttl {
        self.ttl.unwrap_or_default()
    }

    /// Returns the command and its arguments.
    pub(crate) fn command(&self) -> Vec<OsString> {
        match &self.shell_text {
            Some(text) => vec!["sh".into(), "-c".into(), text.clone()],
            None => self.command.clone(),
        }
    }

    /// Returns where fence counters begin.
    pub(crate) fn counters(&self) -> Counters {
        if self.seed_new_counters { Counters::Seeded } else { Counters::FromOne }
    }

    pub(crate) fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        }
    }
}
