//! Parses the report of the contract suite.

use std::{
    collections::BTreeMap,
    fmt::{self, Display, Formatter},
    str::FromStr,
};

use thiserror::Error;

/// The cases that the contract suite ran and skipped, by backend.
///
/// The text has one line for each case that did not fail:
/// `<backend>\t<case>\t<passed|skipped>\t<reason or empty>`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    backends: BTreeMap<String, Cases>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Cases {
    run: usize,
    skipped: Vec<Skip>,
}

#[derive(Debug, PartialEq, Eq)]
struct Skip {
    case: String,
    reason: String,
}

#[derive(Debug, Error, PartialEq, Eq)]
#[error("line {number} of the report of the contract suite is malformed: {text:?}")]
pub(crate) struct MalformedLine {
    number: usize,
    text: String,
}

impl Report {
    pub(crate) fn is_empty(&self) -> bool {
        self.backends.is_empty()
    }

    fn record(&mut self, line: &str) -> Option<()> {
        let fields: Vec<&str> = line.split('\t').collect();
        let [backend, case, outcome, reason] = fields[..] else {
            return None;
        };
        if backend.is_empty() || case.is_empty() {
            return None;
        }
        let skip = match outcome {
            "passed" => None,
            "skipped" => Some(Skip { case: case.to_owned(), reason: reason.to_owned() }),
            _ => return None,
        };
        self.backends.entry(backend.to_owned()).or_default().add(skip);
        Some(())
    }
}

impl Cases {
    fn add(&mut self, skip: Option<Skip>) {
        match skip {
            Some(skip) => self.skipped.push(skip),
            None => self.run += 1,
        }
    }
}

impl FromStr for Report {
    type Err = MalformedLine;

    fn from_str(text: &str) -> Result<Self, MalformedLine> {
        let mut report = Self::default();
        for (line, number) in text.lines().zip(1..) {
            let malformed = || MalformedLine { number, text: line.to_owned() };
            report.record(line).ok_or_else(malformed)?;
        }
        Ok(report)
    }
}

impl Display for Report {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        for (index, (backend, cases)) in self.backends.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(formatter, "{separator}contract  {backend}: {cases}")?;
        }
        Ok(())
    }
}

impl Display for Cases {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} run, {} skipped", self.run, self.skipped.len())?;
        self.skipped.iter().try_for_each(|skip| write!(formatter, "\n  skipped {skip}"))
    }
}

impl Display for Skip {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let reason = if self.reason.is_empty() { "no reason given" } else { &self.reason };
        write!(formatter, "{}: {reason}", self.case)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn malformed_line(text: &str) -> usize {
        text.parse::<Report>().unwrap_err().number
    }

    #[test]
    fn a_text_without_a_line_is_an_empty_report() {
        assert!("".parse::<Report>().unwrap().is_empty());
    }

    #[test]
    fn a_report_with_only_a_skipped_case_is_not_empty() {
        assert!(!"redis\tacquire\tskipped\tlater\n".parse::<Report>().unwrap().is_empty());
    }

    #[test]
    fn cases_are_counted_by_backend_in_the_order_of_their_names() {
        let text = "sqlite\tone\tpassed\t\nmemory\tone\tpassed\t\nsqlite\ttwo\tpassed\t\n";
        let report: Report = text.parse().unwrap();
        let expected = "contract  memory: 1 run, 0 skipped\ncontract  sqlite: 2 run, 0 skipped";
        assert_eq!(report.to_string(), expected);
    }

    #[test]
    fn a_skipped_case_is_listed_with_its_reason() {
        let text = "redis\tone\tpassed\t\nredis\ttwo\tskipped\tno shared mode\n";
        let report: Report = text.parse().unwrap();
        let expected = "contract  redis: 1 run, 1 skipped\n  skipped two: no shared mode";
        assert_eq!(report.to_string(), expected);
    }

    #[test]
    fn a_skipped_case_without_a_reason_is_listed_with_no_reason_given() {
        let report: Report = "redis\ttwo\tskipped\t\n".parse().unwrap();
        assert!(report.to_string().ends_with("skipped two: no reason given"), "{report}");
    }

    #[test]
    fn an_unknown_outcome_is_malformed() {
        assert_eq!(malformed_line("memory\tone\tpassed\t\nmemory\ttwo\tlost\t\n"), 2);
    }

    #[test]
    fn a_line_with_too_few_or_too_many_fields_is_malformed() {
        assert_eq!(malformed_line("memory\tone\tpassed\n"), 1);
        assert_eq!(malformed_line("memory\tone\tpassed\t\t\n"), 1);
    }

    #[test]
    fn a_line_without_a_backend_or_a_case_is_malformed() {
        assert_eq!(malformed_line("\tone\tpassed\t\n"), 1);
        assert_eq!(malformed_line("memory\t\tpassed\t\n"), 1);
    }
}
