use std::fmt::Write;

use fred::{
    bytes::Bytes,
    types::{ClusterHash, Value},
    util::redis_keyslot,
};

use crate::script::Script;

/// The words of a call: the command, its keys and its arguments, in one buffer.
///
/// The driver clones the handle of each word before it writes it to the socket, and so does a call
/// that is sent again. With one buffer that copies no bytes and allocates nothing.
pub(super) struct Words {
    text: Bytes,
    ends: Vec<usize>,
    keys: usize,
}

/// The number of the script, and how many keys and arguments it has, as a batch needs them.
const HEADER: usize = 3;

impl Words {
    pub(super) fn new(script: &Script, keys: &[&str], arguments: &[&str]) -> Self {
        let header = [script.number, keys.len(), arguments.len()];
        let length: usize = keys.iter().chain(arguments).map(|word| word.len()).sum();
        let mut text = String::with_capacity(length + 8 * HEADER);
        let mut ends = Vec::with_capacity(HEADER + keys.len() + arguments.len());
        for number in header {
            // Writing to a string does not fail.
            let _ = write!(text, "{number}");
            ends.push(text.len());
        }
        for word in keys.iter().chain(arguments) {
            text.push_str(word);
            ends.push(text.len());
        }
        Self { text: text.into(), ends, keys: keys.len() }
    }

    /// Returns what follows the hash or the body of the script if the call is sent by itself.
    pub(super) fn unbatched(&self) -> impl Iterator<Item = Value> {
        // The number of keys, and all that follows the header.
        std::iter::once(1).chain(HEADER..self.ends.len()).map(|place| self.word(place))
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = Value> {
        (HEADER..HEADER + self.keys).map(|place| self.word(place))
    }

    /// Returns what follows the keys of a batch.
    pub(super) fn header_and_arguments(&self) -> impl Iterator<Item = Value> {
        let arguments = HEADER + self.keys..self.ends.len();
        (0..HEADER).chain(arguments).map(|place| self.word(place))
    }

    pub(super) fn key_count(&self) -> usize {
        self.keys
    }

    /// Returns the slot of the keys. All keys share one slot.
    pub(super) fn slot(&self) -> ClusterHash {
        ClusterHash::Custom(redis_keyslot(&self.bytes(HEADER)))
    }

    fn word(&self, place: usize) -> Value {
        Value::Bytes(self.bytes(place))
    }

    fn bytes(&self, place: usize) -> Bytes {
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.text.slice(start..self.ends[place])
    }
}

/// Returns the words of a command.
pub(super) fn values(words: &[&str]) -> Vec<Value> {
    words.iter().map(|word| Value::from(*word)).collect()
}
