//! The error of a request that has changed nothing.

use syncguard_core::{Error, ErrorKind};

pub(crate) fn rejection(kind: ErrorKind, detail: &'static str) -> Error {
    Error::new(kind).with_detail(detail).not_applied()
}
