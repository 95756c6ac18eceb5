//! A table of locks.

use std::time::Duration;

use syncguard::{
    backend::{LockRecord, Mode},
    text::Quoted,
};

use crate::display;

const HEAD: [&str; 6] = ["KEY", "HOLDER", "MODE", "FENCE", "LEFT", "AGE"];

/// Returns a line for each lock, below a line with the names of the columns.
pub(crate) fn of(locks: &[LockRecord]) -> String {
    let head = HEAD.map(str::to_owned);
    let rows: Vec<_> = [head].into_iter().chain(locks.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<_> = (0..HEAD.len()).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

fn row(lock: &LockRecord) -> [String; 6] {
    let holder = match (&lock.mode, &lock.owner) {
        (Mode::Shared { .. }, _) => format!("{} holders", lock.holders.len()),
        (Mode::Exclusive, Some(owner)) => owner.to_string(),
        (Mode::Exclusive, None) => "unnamed".to_owned(),
    };
    let mode = match lock.mode.permits() {
        Some(permits) => format!("{} of {permits}", lock.mode.as_str()),
        None => lock.mode.as_str().to_owned(),
    };
    let seconds = |time: Duration| {
        // Below a minute, tenths of a second tell a lock that is renewed from one that expires.
        let unit = if time < Duration::from_secs(60) { 100 } else { 1_000 };
        let units = u64::try_from(time.as_millis()).unwrap_or(u64::MAX) / unit;
        display::duration(Duration::from_millis(units * unit)).to_string()
    };
    [
        Quoted(lock.key.as_str()).to_string(),
        holder,
        mode,
        lock.fence.to_string(),
        seconds(lock.remaining()),
        seconds(lock.observed_at.since(lock.acquired_at)),
    ]
}
