use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Finds messages in a stream of bytes that arrives in chunks.
pub trait Scan: Send + 'static {
    /// Reads the next chunk, and returns how many messages end in it.
    fn scan(&mut self, bytes: &[u8]) -> u64;
}

/// A running total of messages.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<AtomicU64>);

impl Tally {
    /// Returns the number of messages so far.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    pub(super) fn add(&self, messages: u64) {
        self.0.fetch_add(messages, Ordering::AcqRel);
    }
}

/// Returns a predicate for bytes that contain a text, such as a request to cut.
pub fn containing(text: impl Into<Vec<u8>>) -> impl Fn(&[u8]) -> bool + Send + Sync + 'static {
    let text = text.into();
    move |bytes| occurrences(bytes, &text) > 0
}

/// Finds each occurrence of a text, including one that is split across chunks.
#[derive(Clone, Debug)]
pub struct Occurrences {
    text: Vec<u8>,
    /// The last bytes of the stream, too short to contain the text.
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

/// Finds each outermost array of the Redis protocol (RESP 2 and 3). In requests, that is each
/// command.
///
/// Must start at a message boundary: on a new connection, or on an idle one.
#[derive(Clone, Debug, Default)]
pub struct RespArrays {
    /// The number of values that the message still lacks. `None` between messages.
    missing: Option<i64>,
    is_array: bool,
    /// The header line that is being read.
    line: Vec<u8>,
    /// The number of bytes that the payload still lacks.
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
    /// Parses a header line, and returns whether it ends an outermost array. The payload that the
    /// last line announces counts as read: it contains no message.
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
            // Not a value of its own: attributes precede the value that they belong to.
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

    /// Returns how many messages are found in the bytes as a whole, which must be the number that
    /// is found byte by byte.
    fn found(scanner: &(impl Scan + Clone), bytes: &[u8]) -> u64 {
        let whole = scanner.clone().scan(bytes);
        let mut single = scanner.clone();
        let singly: u64 = bytes.iter().map(|byte| single.scan(&[*byte])).sum();
        assert_eq!(whole, singly);
        whole
    }

    #[test]
    fn occurrences_are_found_across_chunks() {
        assert_eq!(found(&Occurrences::of("ab"), b"abcababb"), 3);
        assert_eq!(found(&Occurrences::of("a"), b"aba"), 2);
        assert_eq!(found(&Occurrences::of(""), b"aba"), 0);
    }

    #[test]
    fn commands_are_counted_whatever_their_arguments_contain() {
        let commands = b"*2\r\n$3\r\nGET\r\n$8\r\n*1\r\n$1\r\n\r\n*1\r\n$4\r\nPING\r\n";
        assert_eq!(found(&RespArrays::default(), commands), 2);
    }

    #[test]
    fn only_the_outermost_of_nested_arrays_is_counted() {
        let replies = b"+OK\r\n*2\r\n*2\r\n:1\r\n$-1\r\n*0\r\n$2\r\nok\r\n*0\r\n";
        assert_eq!(found(&RespArrays::default(), replies), 2);
    }

    #[test]
    fn maps_and_attributes_of_resp_3_are_skipped() {
        let replies = b"|1\r\n+a\r\n:1\r\n*1\r\n%1\r\n+k\r\n,1.5\r\n_\r\n";
        assert_eq!(found(&RespArrays::default(), replies), 0);
        let replies = b"*1\r\n%1\r\n+k\r\n,1.5\r\n_\r\n*1\r\n#t\r\n";
        assert_eq!(found(&RespArrays::default(), replies), 2);
    }
}
