//! The ids of transactions.

use tonic::Status;

/// Identifies a transaction and its age.
///
/// A transaction that is begun to retry another one is as old as that one, however often: the
/// oldest is never the one that a deadlock ends, so each eventually succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TransactionId {
    born: u64,
    serial: u64,
}

impl TransactionId {
    pub(super) fn first(serial: u64) -> Self {
        Self { born: serial, serial }
    }

    /// Returns the id of another attempt at this transaction.
    pub(super) fn again(self, serial: u64) -> Self {
        Self { serial, ..self }
    }

    pub(crate) fn to_bytes(self) -> Vec<u8> {
        [self.born.to_be_bytes(), self.serial.to_be_bytes()].concat()
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Status> {
        let invalid = || Status::invalid_argument("Invalid transaction.");
        let (born, serial) = bytes.split_first_chunk().ok_or_else(invalid)?;
        let serial = serial.try_into().map_err(|_| invalid())?;
        Ok(Self { born: u64::from_be_bytes(*born), serial: u64::from_be_bytes(serial) })
    }
}

#[cfg(test)]
mod tests {
    use super::TransactionId;

    #[test]
    fn an_id_survives_encoding_and_decoding() {
        let id = TransactionId::first(3).again(9);
        assert_eq!(TransactionId::parse(&id.to_bytes()).unwrap(), id);
        assert!(TransactionId::parse(b"short").is_err());
        assert!(TransactionId::parse(&[0; 17]).is_err());
    }

    #[test]
    fn another_attempt_is_as_old_as_the_first() {
        let (first, second) = (TransactionId::first(1), TransactionId::first(2));
        assert!(first.again(3) < second);
        assert!(first < first.again(3));
    }
}
