//! Text from elsewhere, as a person may safely read it.

use std::{fmt::Write, time::Duration};

use syncguard::Holder;

/// The longest line, in characters. What is longer loses its middle: the reason stands at the end.
const MAX_LINE: usize = 1_000;

/// Describes a holder: `held by "ci-7" under fence 000000000000042 for another 12s`, as far as known.
pub(crate) fn holder(holder: &Holder) -> String {
    let mut words = match &holder.owner {
        Some(owner) => format!("held by {}", quoted(owner.as_str())),
        None => "held by an unnamed owner".to_owned(),
    };
    if let Some(fence) = holder.fence {
        let _ = write!(words, " under fence {fence}");
    }
    if let Some(remaining) = holder.remaining {
        let _ = write!(words, " for another {}", duration(remaining));
    }
    words
}

/// Writes a duration in whole milliseconds.
pub(crate) fn duration(duration: Duration) -> humantime::FormattedDuration {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    humantime::format_duration(Duration::from_millis(millis))
}

/// Puts a label in quotes, so that it cannot be read as a part of the sentence around it, nor change
/// how that is shown.
fn quoted(label: &str) -> String {
    let mut quoted = String::from('"');
    for c in label.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        // Spaces other than the plain one look like it, or like nothing.
        if c != ' ' && c.is_whitespace() {
            quoted.extend(c.escape_unicode());
        } else {
            push(&mut quoted, c);
        }
    }
    quoted.push('"');
    quoted
}

/// Makes one line of what a file name, an argument or a server put into a message.
pub(crate) fn line(text: &str) -> String {
    let words = text.split(|c: char| c.is_control() || c.is_whitespace());
    let words = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    let mut line = String::with_capacity(words.len());
    words.chars().for_each(|c| push(&mut line, c));
    cut(line)
}

/// Escapes what a terminal does not show in JSON, which stays the same value.
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

fn push(text: &mut String, c: char) {
    if is_hidden(c) { text.extend(c.escape_unicode()) } else { text.push(c) }
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

/// Returns whether a character is not shown, or changes how others are: control characters, line
/// separators, and `Default_Ignorable_Code_Point` of Unicode 17, which has the zero-width and the
/// bidirectional ones.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::{cut, json, line, quoted};

    #[test]
    fn nothing_breaks_the_line_or_steers_the_terminal() {
        assert_eq!(line("a\n  b\u{1b}[2J\tc\n"), "a b [2J c");
        assert_eq!(line("gnp.\u{202e}exe\u{200b}"), "gnp.\\u{202e}exe\\u{200b}");
    }

    #[test]
    fn a_label_stays_within_its_quotes() {
        assert_eq!(quoted("ci-7 (blau), größer"), "\"ci-7 (blau), größer\"");
        assert_eq!(quoted("a\" under fence \\"), "\"a\\\" under fence \\\\\"");
        assert_eq!(quoted("a\u{2066}b\u{a0}c\u{ad}"), "\"a\\u{2066}b\\u{a0}c\\u{ad}\"");
    }

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
