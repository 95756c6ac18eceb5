use std::fmt;

use super::Error;
use crate::text::Line;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.operation, self.0.key) {
            (Some(operation), Some(key)) => write!(f, "{operation} of lock {key}: ")?,
            (Some(operation), None) => write!(f, "{operation}: ")?,
            (None, Some(key)) => write!(f, "lock {key}: ")?,
            (None, None) => {}
        }
        f.write_str(self.0.kind.describe())?;
        if let Some(detail) = &self.0.detail {
            write!(f, ": {}", Line(detail))?;
        }
        match &self.0.holder {
            Some(holder) => write!(f, ": {holder}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("operation", &self.0.operation)
            .field("key", &self.0.key)
            .field("lock_id", &self.0.lock_id)
            .field("detail", &self.0.detail)
            .field("source", &self.0.source)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use crate::{Error, ErrorKind, Holder, LockKey, Operation, Owner};

    #[test]
    fn display_names_operation_hash_kind_and_detail_in_one_line() {
        let key = LockKey::new("payment:123").unwrap();
        let error = Error::new(ErrorKind::ServiceUnavailable)
            .with_operation(Operation::Extend)
            .with_key(&key)
            .with_detail("connection refused")
            .with_source("errno 111");
        assert_eq!(
            error.to_string(),
            "extend of lock a422dabee27fcc7ad506f372: the store is unavailable: connection refused"
        );
        assert_eq!(error.source().unwrap().to_string(), "errno 111");
    }

    #[test]
    fn display_quotes_the_label_of_the_holder() {
        let owner = Owner::new("ci\" under fence 9\u{202e}").unwrap();
        let holder = Holder { owner: Some(owner), ..Holder::default() };
        let error = Error::new(ErrorKind::AcquisitionTimeout).with_operation(Operation::Acquire);
        let text = error.with_holder(Some(holder)).to_string();
        assert!(text.ends_with(r#": held by "ci\" under fence 9\u{202e}""#), "{text}");
    }

    #[test]
    fn display_is_one_line_whatever_text_the_server_sent() {
        let error = Error::new(ErrorKind::Internal).with_operation(Operation::Lookup);
        let error = error.with_detail("duplicate entry\n 'ci\u{1b}[2J\u{202e}'");
        assert!(error.to_string().ends_with(r"duplicate entry 'ci [2J\u{202e}'"), "{error}");
    }
}
