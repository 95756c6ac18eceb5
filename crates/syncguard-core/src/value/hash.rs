use std::fmt;

/// Shows a key or a lock id in logs and lookups without giving its text away.
///
/// Three 32-bit accumulators over the UTF-16 code units of the text, written as 24 lower-case
/// hexadecimal digits. The TypeScript SyncGuard shows the same digits, so that logs of both can be
/// joined. It is for display only: collisions are cheap to make, so decide nothing by it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DisplayHash([u32; 3]);

impl DisplayHash {
    /// Computes the hash of `text`, which is taken as it is; a key brings its own normal form.
    pub fn of(text: &str) -> Self {
        let step = |h: u32, shift: u32, add: u32| (h << shift).wrapping_sub(h).wrapping_add(add);
        Self(text.encode_utf16().map(u32::from).fold([0; 3], |[a, b, c], unit| {
            [step(a, 5, unit), step(b, 7, unit * 3), step(c, 11, unit * 7)]
        }))
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
