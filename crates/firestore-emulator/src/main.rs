//! The double as a program, for clients that are not in its process.

use std::{
    io::{self, Write},
    net::SocketAddr,
};

use clap::Parser;
use firestore_emulator::{Concurrency, Emulator};

/// A double of Firestore. It keeps its documents in memory and loses them when it ends
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen; port 0 is a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Let commits fail if something has changed, instead of locking what is read
    #[arg(long)]
    optimistic: bool,
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let concurrency =
        if arguments.optimistic { Concurrency::Optimistic } else { Concurrency::Pessimistic };
    let emulator = Emulator::builder().listen(arguments.listen).concurrency(concurrency);
    let emulator = emulator.start().await?;
    // The process that starts it reads this line to know that it runs, and where.
    let mut output = io::stdout();
    writeln!(output, "export FIRESTORE_EMULATOR_HOST={}", emulator.address())?;
    output.flush()?;
    tokio::signal::ctrl_c().await
}
