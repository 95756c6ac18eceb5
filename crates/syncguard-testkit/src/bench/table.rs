use std::{fmt::Write, time::Duration};

/// Lines of results, some of them with a bar.
#[derive(Debug, Default)]
pub struct Table(Vec<[String; 4]>);

/// What a result has to be.
#[derive(Clone, Copy, Debug)]
pub enum Bar {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

impl Table {
    /// Adds a result that is there to be compared with.
    pub fn note(&mut self, what: &str, result: f64, unit: &str) {
        self.0.push([what.to_owned(), show(result, unit), String::new(), String::new()]);
    }

    /// Adds a result that has to meet a bar.
    pub fn judge(&mut self, what: &str, result: f64, unit: &str, bar: Bar) {
        let (text, met) = match bar {
            Bar::AtMost(limit) => (format!("≤ {}", show(limit, unit)), result <= limit),
            Bar::AtLeast(limit) => (format!("≥ {}", show(limit, unit)), result >= limit),
        };
        let verdict = if met { "pass" } else { "FAIL" };
        self.0.push([what.to_owned(), show(result, unit), text, verdict.to_owned()]);
    }

    /// Prints all lines.
    pub fn print(&self) {
        let mut text = String::new();
        for [what, result, bar, verdict] in &self.0 {
            let line = format!("{what:<66} {result:>16}   {bar:<18} {verdict}");
            writeln!(text, "{}", line.trim_end()).unwrap();
        }
        println!("{text}");
    }
}

fn show(number: f64, unit: &str) -> String {
    let digits = if number.abs() >= 1_000.0 { 0 } else { 2 };
    format!("{number:.digits$} {unit}")
}

/// Gives the median of some numbers, of which there is at least one.
#[must_use]
pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// Gives a time in microseconds.
#[must_use]
pub fn to_micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
