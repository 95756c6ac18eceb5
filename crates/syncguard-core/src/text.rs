//! Text from other sources, displayed safely.
//!
//! Anyone who may write to a store can choose a label, and a terminal or a log shows it to an
//! operator. A label must not be mistaken for the text around it and must not change how that text
//! is shown.

use std::fmt::{self, Display, Write};

/// Shows a label in quotes, on one line.
///
/// **Guarantees:** quotes and backslashes of the label are preceded by a backslash, so the label
/// cannot be read as a part of the sentence around it. Characters that are [hidden](is_hidden), and
/// spaces other than the plain one, are written as `\u{202e}`.
///
/// # Examples
///
/// ```
/// use syncguard_core::text::Quoted;
///
/// assert_eq!(Quoted("ci-7 (blue)").to_string(), r#""ci-7 (blue)""#);
/// assert_eq!(Quoted("a\" b\u{202e}").to_string(), r#""a\" b\u{202e}""#);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(pub &'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                ' ' => f.write_char(c)?,
                // Other spaces look like the plain one or are invisible.
                c if c.is_whitespace() => c.escape_unicode().fmt(f)?,
                c => write_visible(c, f)?,
            }
        }
        f.write_char('"')
    }
}

/// Writes text from a server, a file name or an argument on one line.
///
/// **Guarantees:** each run of spaces and control characters becomes one space, and there are no
/// spaces at either end. Other [hidden](is_hidden) characters are written as `\u{202e}`.
///
/// # Examples
///
/// ```
/// use syncguard_core::text::Line;
///
/// assert_eq!(Line("no such host:\n  gnp.\u{202e}exe\n").to_string(), "no such host: gnp.\\u{202e}exe");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Line<'a>(pub &'a str);

impl Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.0.split(|c: char| c.is_control() || c.is_whitespace());
        for (index, word) in words.filter(|word| !word.is_empty()).enumerate() {
            if index > 0 {
                f.write_char(' ')?;
            }
            word.chars().try_for_each(|c| write_visible(c, f))?;
        }
        Ok(())
    }
}

fn write_visible(c: char, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if is_hidden(c) { c.escape_unicode().fmt(f) } else { f.write_char(c) }
}

/// Returns whether a character is invisible, or changes how other characters are displayed.
///
/// Those are control characters, line separators, and `Default_Ignorable_Code_Point` of Unicode 17,
/// which includes the zero-width and the bidirectional characters.
///
/// # Examples
///
/// ```
/// use syncguard_core::text::is_hidden;
///
/// assert!(is_hidden('\u{202e}')); // reverses the direction of the text after it
/// assert!(!is_hidden('\u{e9}'));
/// ```
pub fn is_hidden(c: char) -> bool {
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
    use proptest::prelude::{any, proptest};

    use super::{Line, Quoted, is_hidden};

    fn quoted(label: &str) -> String {
        Quoted(label).to_string()
    }

    #[test]
    fn a_label_stays_within_its_quotes() {
        assert_eq!(quoted("ci-7 (blau), größer"), "\"ci-7 (blau), größer\"");
        assert_eq!(quoted("a\" under fence \\"), r#""a\" under fence \\""#);
        assert_eq!(quoted(""), "\"\"");
    }

    #[test]
    fn control_characters_and_invisible_characters_are_escaped() {
        assert_eq!(quoted("a\u{2066}b\u{a0}c\u{ad}"), r#""a\u{2066}b\u{a0}c\u{ad}""#);
        assert_eq!(quoted("\u{1b}[2J\r\n"), r#""\u{1b}[2J\u{d}\u{a}""#);
        for hidden in ['\0', '\u{7f}', '\u{9b}', '\u{200b}', '\u{202e}', '\u{2028}', '\u{e0001}'] {
            assert!(is_hidden(hidden), "{hidden:?}");
        }
    }

    #[test]
    fn every_class_of_hidden_characters_is_escaped() {
        let bidirectional = "\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}";
        let isolates = "\u{2066}\u{2067}\u{2068}\u{2069}";
        let line_breaks = "\n\u{b}\u{c}\r\u{85}\u{2028}\u{2029}";
        let without_width = "\u{ad}\u{34f}\u{200b}\u{200c}\u{200d}\u{2060}\u{2064}\u{feff}";
        let fillers = "\u{115f}\u{1160}\u{17b4}\u{17b5}\u{3164}\u{ffa0}";
        let selectors = "\u{180b}\u{180f}\u{fe00}\u{fe0f}\u{e0100}\u{e01ef}\u{e0fff}";
        let tags = "\u{e0000}\u{e0001}\u{e007f}";
        let formats = "\u{206a}\u{206f}\u{fff0}\u{fffb}\u{1bca0}\u{1bca3}\u{1d173}\u{1d17a}";
        let control = [bidirectional, isolates, line_breaks, formats];
        let invisible = [without_width, fillers, selectors, tags];
        let classes = [control, invisible].concat();
        for hidden in classes.into_iter().flat_map(str::chars) {
            let (label, shown) = (format!("a{hidden}b"), hidden.escape_unicode());
            assert_eq!(quoted(&label), format!("\"a{shown}b\""));
            assert!(!Line(&label).to_string().contains(hidden), "{shown}");
        }
        // A letter written from right to left, a combining accent, and neighbours of the above.
        for visible in "~\u{5d0}\u{301}\u{ae}\u{2010}\u{2030}\u{fffc}\u{1f600}".chars() {
            assert!(!is_hidden(visible), "{visible:?}");
        }
    }

    #[test]
    fn a_line_contains_neither_line_breaks_nor_hidden_characters() {
        assert_eq!(Line("a\n  b\u{1b}[2J\tc\n").to_string(), "a b [2J c");
        assert_eq!(Line("gnp.\u{202e}exe\u{200b}").to_string(), r"gnp.\u{202e}exe\u{200b}");
    }

    proptest! {
        #[test]
        fn no_label_ends_its_quotes_early(label in any::<String>()) {
            let shown = quoted(&label);
            assert!(!shown.chars().any(is_hidden), "{shown:?}");
            let mut inner = shown.strip_prefix('"').unwrap().strip_suffix('"').unwrap().chars();
            while let Some(c) = inner.next() {
                assert_ne!(c, '"', "{shown}");
                if c == '\\' {
                    assert!(inner.next().is_some(), "it escapes the closing quote: {shown}");
                }
            }
        }
    }
}
