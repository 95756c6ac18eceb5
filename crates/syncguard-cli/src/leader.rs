//! Running a command on one host at a time.

use std::time::Duration;

use tokio::time::sleep;

use crate::{
    arguments::{Leader, Run},
    exit::Exit,
    failure::Failure,
    report::note,
    run::{complete, run_locked},
    signals::Signals,
};

/// How long other candidates have to take over after a term. In that time each of them makes an
/// attempt, as after a term of the library's leaders.
const PAUSE: Duration = Duration::from_secs(2);

/// Runs the command in one term after another, until it ends by itself.
pub(crate) async fn leader(mut arguments: Leader) -> Result<Exit, Failure> {
    arguments.work.verbosity().choose();
    complete(&mut arguments.work)?;
    let term = Run::term(arguments);
    // For all terms, so that no signal between two of them is missed.
    let mut signals = Signals::catch().map_err(Failure::Signals)?;
    loop {
        match run_locked(&term, &mut signals).await {
            Ok(Exit::Lost) => note("the term is over; the next one is waited for after a pause"),
            ended => return ended,
        }
        tokio::select! {
            signal = signals.terminating() => return Ok(signal.into()),
            () = sleep(PAUSE) => {}
        }
    }
}
