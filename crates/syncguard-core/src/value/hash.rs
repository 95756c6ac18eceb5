use std::{fmt, sync::OnceLock};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::invalid::{Invalid, InvalidValue};

/// Represents a key or a lock id in logs and lookups, so that its text is not shown by accident.
///
/// The hash consists of three 32-bit accumulators over the UTF-16 code units of the text, written
/// as 24 lower-case hexadecimal digits. The TypeScript SyncGuard shows the same digits, so that
/// logs of both can be joined. The hash is for display only: collisions are easy to construct, so
/// base no decision on it.
///
/// # Secrecy
///
/// By default a hash protects nothing. The accumulators are polynomials, so a text that is short or
/// can be guessed is found from its hash in seconds, and the hash of a lock id leaves a fraction of
/// the work that its 128 bits would take. If readers of the logs must not learn the keys, call
/// [`set_key`](Self::set_key).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DisplayHash([u32; 3]);

/// The key of all hashes of the process, if it was set.
static KEY: OnceLock<[u8; 32]> = OnceLock::new();

impl DisplayHash {
    /// Computes all display hashes of this process under `key` from now on: the first 12 bytes of
    /// HMAC-SHA-256 (RFC 2104).
    ///
    /// To anyone who does not have the key, a hash reveals only whether another hash is of the same
    /// text. Processes whose logs are to be joined need the same key. The hashes differ
    /// from those of the TypeScript SyncGuard.
    ///
    /// The key is global to the process, like a global logger, because keys and ids are displayed
    /// where no configuration is available. A program sets it, not a library, before the first lock
    /// is acquired: hashes computed earlier do not change.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] if a different key was set before; the earlier key stays in use.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use syncguard_core::{DisplayHash, LockKey};
    ///
    /// // A service reads it from its configuration.
    /// DisplayHash::set_key([7; 32])?;
    /// assert_eq!(LockKey::new("payment:42")?.to_string().len(), 24);
    /// # Ok::<(), syncguard_core::Error>(())
    /// ```
    pub fn set_key(key: [u8; 32]) -> Result<(), InvalidValue> {
        if *KEY.get_or_init(|| key) == key { Ok(()) } else { Err(Invalid::HashKey.into()) }
    }

    /// Computes the hash of `text` as it is; a key provides its own normal form.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::{DisplayHash, LockKey};
    ///
    /// let key = LockKey::new("payment:42")?;
    /// assert_eq!(DisplayHash::of("payment:42"), key.display_hash());
    /// # Ok::<(), syncguard_core::Error>(())
    /// ```
    pub fn of(text: &str) -> Self {
        KEY.get().map_or_else(|| Self::plain(text), |key| Self::keyed(key, text))
    }

    fn plain(text: &str) -> Self {
        let step = |h: u32, shift: u32, add: u32| (h << shift).wrapping_sub(h).wrapping_add(add);
        Self(text.encode_utf16().map(u32::from).fold([0; 3], |[a, b, c], unit| {
            [step(a, 5, unit), step(b, 7, unit * 3), step(c, 11, unit * 7)]
        }))
    }

    /// A block of SHA-256 is longer than the key, so the key is used as it is.
    fn keyed(key: &[u8; 32], text: &str) -> Self {
        let mut block = [0; 64];
        block[..key.len()].copy_from_slice(key);
        let code = Hmac::<Sha256>::new(&block.into()).chain_update(text).finalize().into_bytes();
        let word =
            |at: usize| u32::from_be_bytes([code[at], code[at + 1], code[at + 2], code[at + 3]]);
        Self([word(0), word(4), word(8)])
    }
}

impl fmt::Display for DisplayHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c] = self.0;
        write!(f, "{a:08x}{b:08x}{c:08x}")
    }
}

impl fmt::Debug for DisplayHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for DisplayHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::DisplayHash;

    #[test]
    fn a_keyed_hash_is_the_beginning_of_hmac_sha_256() {
        // RFC 4231, test case 2, whose key is followed by zeros in any case.
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        let hash = DisplayHash::keyed(&key, "what do ya want for nothing?");
        assert_eq!(hash.to_string(), "5bdcc146bf60754e6a042426");
    }

    #[test]
    fn keys_that_differ_in_one_bit_produce_unrelated_hashes() {
        let (mut key, text) = ([7; 32], "payment:42");
        let hash = DisplayHash::keyed(&key, text);
        key[31] ^= 1;
        let shared = hash.0.iter().zip(DisplayHash::keyed(&key, text).0).filter(|(a, b)| *a == b);
        assert_eq!(shared.count(), 0);
        assert_ne!(hash, DisplayHash::plain(text));
    }
}
