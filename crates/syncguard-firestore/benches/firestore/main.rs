//! Measures the cost of the backend against two baselines. The first makes the same three calls
//! directly over the driver, which is the least that a program can do with the service. The second
//! makes them over a bare channel, which has no credentials and so works only with an emulator. The
//! bars apply to the first baseline. Neither has timeouts.
//!
//! Run with `cargo bench -p syncguard-firestore`. It starts a double of the server on its own
//! thread, reached over TCP. Each line shows a bar and whether it is met. The numbers of a shared
//! machine vary, so the contestants take turns.

#![expect(clippy::unwrap_used, reason = "a benchmark that fails panics")]

mod contention;
mod raw;
mod speed;

use std::{net::SocketAddr, sync::mpsc, thread};

use firestore_emulator::Emulator;
use syncguard_firestore::{FirestoreBackend, FirestoreConfig};
use syncguard_testkit::bench::Table;
use tokio::runtime::Builder;

const PROJECT: &str = "bench";

fn main() {
    let server = serve();
    // One thread for the clients and one for the server: more threads would impede each other.
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut table = Table::default();
        speed::measure(server, &mut table).await;
        contention::measure(server, &mut table).await;
        table.print();
    });
}

/// Starts the double on its own thread, which ends with the program.
fn serve() -> SocketAddr {
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new()
        .name("double".into())
        .spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let emulator = Emulator::builder().start().await.unwrap();
                sender.send(emulator.address()).unwrap();
                std::future::pending::<()>().await;
            });
        })
        .unwrap();
    receiver.recv().unwrap()
}

fn connect(server: SocketAddr) -> FirestoreBackend {
    FirestoreBackend::connect(FirestoreConfig::new(PROJECT).emulator(server.to_string())).unwrap()
}
