use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Finds messages in a stream of bytes that comes in pieces.
pub trait Scan: Send + 'static {
    /// Reads the next piece, and says how many messages end in it.
    fn scan(&mut self, bytes: &[u8]) -> u64;
}

/// A running total of messages.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<AtomicU64>);

impl Tally {
    /// How many there were so far.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    pub(super) fn add(&self, messages: u64) {
        self.0.fetch_add(messages, Ordering::AcqRel);
    }
}

/// Describes what holds a text: a request to be cut.
pub fn containing(text: impl Into<Vec<u8>>) -> impl Fn(&[u8]) -> bool + Send + Sync + 'static {
    let text = text.into();
    move |bytes| occurrences(bytes, &text) > 0
}

/// Finds each occurrence of a text, also of one that comes in two pieces.
#[derive(Clone, Debug)]
pub struct Occurrences {
    text: Vec<u8>,
    /// The end of what was read, too short to hold the text.
    tail: Vec<u8>,
}

impl Occurrences {
    /// Looks for `text`.
    #[must_use]
    pub fn of(text: impl Into<Vec<u8>>) -> Self {
        Self { text: text.into(), tail: Vec::new() }
    }
}

impl Scan for Occurrences {
    fn scan(&mut self, bytes: &[u8]) -> u64 {
        self.tail.extend_from_slice(bytes);
        let found = occurrences(&self.tail, &self.text);
        let keep = self.text.len().saturating_sub(1);
        self.tail.drain(..self.tail.len().saturating_sub(keep));
        found
    }
}

fn occurrences(bytes: &[u8], text: &[u8]) -> u64 {
    if text.is_empty() {
        return 0;
    }
    let found = bytes.windows(text.len()).filter(|part| *part == text);
    found.count() as u64
}

/// Finds each outermost array of the Redis protocol (RESP 2 and 3): in requests, each command.
///
/// It begins where messages begin: with a new connection, or with one that is idle.
#[derive(Clone, Debug, Default)]
pub struct RespArrays {
    /// Values that are still to come before the message is whole. None between messages.
    missing: Option<i64>,
    is_array: bool,
    /// The header line that is being read.
    line: Vec<u8>,
    /// Bytes of a payload that are still to come.
    payload: usize,
}

impl Scan for RespArrays {
    fn scan(&mut self, mut bytes: &[u8]) -> u64 {
        let mut found = 0;
        while let Some((first, rest)) = bytes.split_first() {
            if self.payload > 0 {
                let skipped = self.payload.min(bytes.len());
                self.payload -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            bytes = rest;
            self.line.push(*first);
            if self.line.ends_with(b"\r\n") {
                found += u64::from(self.end_line());
            }
        }
        found
    }
}

impl RespArrays {
    /// Takes a header line in, and says whether it ends an outermost array. The payload that the
    /// last line announces counts as read: it holds no message.
    fn end_line(&mut self) -> bool {
        let line = mem::take(&mut self.line);
        let kind = line[0];
        let number = std::str::from_utf8(&line[1..]).ok();
        let number: i64 = number.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let missing = match self.missing {
            Some(missing) => missing,
            None => {
                self.is_array = kind == b'*';
                1
            }
        };
        let inside = match kind {
            // No value by itself: attributes go before the one that they belong to.
            b'|' => 2 * number.max(0) + 1,
            b'*' | b'~' | b'>' => number.max(0),
            b'%' => 2 * number.max(0),
            _ => 0,
        };
        if matches!(kind, b'$' | b'!' | b'=')
            && let Ok(length) = usize::try_from(number)
        {
            self.payload = length + b"\r\n".len();
        }
        let missing = missing - 1 + inside;
        self.missing = (missing > 0).then_some(missing);
        self.missing.is_none() && self.is_array
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found in the bytes as a whole, which must be what is found in them one by one.
    fn found(scanner: &(impl Scan + Clone), bytes: &[u8]) -> u64 {
        let whole = scanner.clone().scan(bytes);
        let mut single = scanner.clone();
        let singly: u64 = bytes.iter().map(|byte| single.scan(&[*byte])).sum();
        assert_eq!(whole, singly);
        whole
    }

    #[test]
    fn occurrences_are_found_across_pieces() {
        assert_eq!(found(&Occurrences::of("ab"), b"abcababb"), 3);
        assert_eq!(found(&Occurrences::of("a"), b"aba"), 2);
        assert_eq!(found(&Occurrences::of(""), b"aba"), 0);
    }

    #[test]
    fn commands_are_counted_whatever_their_arguments_hold() {
        let commands = b"*2\r\n$3\r\nGET\r\n$8\r\n*1\r\n$1\r\n\r\n*1\r\n$4\r\nPING\r\n";
        assert_eq!(found(&RespArrays::default(), commands), 2);
    }

    #[test]
    fn of_nested_arrays_only_the_outermost_counts() {
        let replies = b"+OK\r\n*2\r\n*2\r\n:1\r\n$-1\r\n*0\r\n$2\r\nok\r\n*0\r\n";
        assert_eq!(found(&RespArrays::default(), replies), 2);
    }

    #[test]
    fn maps_and_attributes_of_resp_3_are_passed_over() {
        let replies = b"|1\r\n+a\r\n:1\r\n*1\r\n%1\r\n+k\r\n,1.5\r\n_\r\n";
        assert_eq!(found(&RespArrays::default(), replies), 0);
        let replies = b"*1\r\n%1\r\n+k\r\n,1.5\r\n_\r\n*1\r\n#t\r\n";
        assert_eq!(found(&RespArrays::default(), replies), 2);
    }
}
