//! What the program knows of itself: completions, manual pages, and the hash of a key.

use clap::CommandFactory;

use crate::{
    answer,
    arguments::{Arguments, Completions, Hash, Man},
    exit::Exit,
    failure::Failure,
};

/// Prints the hash of a key.
pub(crate) fn hash(arguments: &Hash) -> Result<Exit, Failure> {
    answer::print(&arguments.key.display_hash().to_string())
}

/// Prints the completions of a shell.
pub(crate) fn completions(arguments: &Completions) -> Result<Exit, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "syncguard", &mut text);
    answer::print(&String::from_utf8_lossy(&text))
}

/// Writes a manual page for the program and for each of its subcommands.
pub(crate) fn man(arguments: &Man) -> Result<Exit, Failure> {
    clap_mangen::generate_to(Arguments::command(), &arguments.directory)
        .map_err(Failure::Output)?;
    Ok(Exit::SUCCESS)
}
