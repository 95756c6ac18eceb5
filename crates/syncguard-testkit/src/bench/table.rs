use std::{fmt::Write, time::Duration};

/// A table of results, some of them with a limit.
#[derive(Debug, Default)]
pub struct Table(Vec<[String; 5]>);

/// The limit that a result must meet.
#[derive(Clone, Copy, Debug)]
pub enum Bar {
    /// The result is at most this.
    AtMost(f64),
    /// The result is at least this.
    AtLeast(f64),
}

impl Table {
    /// Adds a result for comparison.
    pub fn note(&mut self, what: &str, result: f64, unit: &str) {
        let (text, status) = Default::default();
        self.0.push([what.to_owned(), show(result, unit), text, status, String::new()]);
    }

    /// Adds a result that must meet a limit.
    pub fn judge(&mut self, what: &str, result: f64, unit: &str, bar: Bar) {
        let (text, met) = match bar {
            Bar::AtMost(limit) => (format!("≤ {}", show(limit, unit)), result <= limit),
            Bar::AtLeast(limit) => (format!("≥ {}", show(limit, unit)), result >= limit),
        };
        let status = if met { "pass" } else { "FAIL" };
        let status = status.to_owned();
        self.0.push([what.to_owned(), show(result, unit), text, status, String::new()]);
    }

    /// Adds to the last result what an earlier version took, as it was recorded then.
    pub fn recorded(&mut self, earlier: &str) {
        if let Some([.., recorded]) = self.0.last_mut() {
            *recorded = format!("before: {earlier}");
        }
    }

    /// Prints all lines.
    pub fn print(&self) {
        let mut text = String::new();
        for [what, result, bar, status, recorded] in &self.0 {
            let line = format!("{what:<66} {result:>16}   {bar:<18} {status:<5} {recorded}");
            writeln!(text, "{}", line.trim_end()).unwrap();
        }
        println!("{text}");
    }
}

fn show(number: f64, unit: &str) -> String {
    let digits = if number.abs() >= 1_000.0 { 0 } else { 2 };
    format!("{number:.digits$} {unit}")
}

/// Returns the median of at least one number.
#[must_use]
pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// Converts a duration to microseconds.
#[must_use]
pub fn to_micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
