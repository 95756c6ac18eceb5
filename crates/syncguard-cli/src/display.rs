//! Text from external sources, made safe to display.

use std::{fmt::Write, time::Duration};

use syncguard::text::{Line, is_hidden};

/// The longest line, in characters. A longer one loses its middle, because the reason is at the
/// end.
const MAX_LINE: usize = 1_000;

/// Formats a duration in whole milliseconds.
pub(crate) fn duration(duration: Duration) -> humantime::FormattedDuration {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    humantime::format_duration(Duration::from_millis(millis))
}

/// Makes one line of text that a file name, an argument or a server put into a message.
pub(crate) fn line(text: &str) -> String {
    cut(Line(text).to_string())
}

/// Escapes in JSON what a terminal does not show. The JSON value stays the same.
pub(crate) fn json(text: &str) -> String {
    let mut json = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(json, "\\u{unit:04x}");
            }
        } else {
            json.push(c);
        }
    }
    json
}

/// Cuts the middle out of a line that is too long.
fn cut(line: String) -> String {
    let length = line.chars().count();
    if length <= MAX_LINE {
        return line;
    }
    let place = |index| line.char_indices().nth(index).map_or(line.len(), |(place, _)| place);
    let (head, tail) = (place(MAX_LINE / 2), place(length - MAX_LINE / 2));
    let left_out = length - MAX_LINE / 2 * 2;
    format!("{} [{left_out} characters left out] {}", &line[..head], &line[tail..])
}

#[cfg(test)]
mod tests {
    use super::{cut, json};

    #[test]
    fn json_keeps_its_value() {
        let text = "a\u{202e}b\u{e0001}c\"";
        let written = json(&serde_json::to_string(text).unwrap());
        assert_eq!(written, r#""a\u202eb\udb40\udc01c\"""#);
        assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text);
    }

    #[test]
    fn a_long_line_keeps_its_beginning_and_its_end() {
        let long = format!("begin {} end", "ä".repeat(100_000));
        let short = cut(long);
        assert!(short.chars().count() < 1_100, "{}", short.len());
        assert!(short.starts_with("begin ä") && short.ends_with("ä end"), "{short}");
        assert!(short.contains("[99010 characters left out]"), "{short}");
        let fits = "x".repeat(1_000);
        assert_eq!(cut(fits.clone()), fits);
    }
}
