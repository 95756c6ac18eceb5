//! Damaged records, and the correct outcome for each.

use std::{collections::BTreeSet, time::UNIX_EPOCH};

use serde::Deserialize;
use serde_json::Value;
use syncguard_testkit::mutants::{damaged, mutants};

/// Placeholders for the id and the key that the record would have if it were valid.
pub(crate) const ID: &str = r#""ID""#;
pub(crate) const KEY: &str = r#""KEY""#;

const MEMBERS: [&str; 5] = ["lockId", "expiresAtMs", "acquiredAtMs", "fence", "key"];

/// A live lock and an expired one.
const SHAPES: [[&str; 5]; 2] = [
    [ID, "4102444800000", "1", r#""000000000000005""#, KEY],
    [ID, "1", "1", r#""000000000000005""#, KEY],
];

/// Omits the member.
const ABSENT: &str = "absent";

/// Values that are unexpected in place of a number, and most of them in place of a text.
const ODD_VALUES: &[&str] = &[
    ABSENT,
    // Numbers that are not finite, not whole, or written as JSON does not write them.
    "NaN",
    "-NaN",
    "nan",
    "Infinity",
    "-Infinity",
    "inf",
    "-inf",
    "1e999",
    "-1e999",
    "0x10",
    "-0x1p3",
    "1.5",
    "-0.5",
    "1e-3",
    "1.",
    ".5",
    "+1",
    "01",
    "1_000",
    "1e",
    "--1",
    // Small and negative numbers, and numbers at the limits of integers and of floating point.
    "0",
    "-0",
    "1",
    "-1",
    "1e3",
    "1.0e3",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551616",
    "99999999999999999999999999999999999999999999999999",
    "-99999999999999999999999999999999999999999999999999",
    "1e308",
    "-1e308",
    // Texts, some of which look like a number, escape from a string, or are code.
    r#""""#,
    r#"" ""#,
    r#""1""#,
    r#""-1""#,
    r#""nan""#,
    r#""0x10""#,
    r#""1e999""#,
    r#""000000000000001""#,
    r#""999999999999999""#,
    r#""9999999999999999""#,
    ID,
    r#""ABCDEFGHIJKLMNOPQRSTU""#,
    r#""abcdefghijklmnopqrstu+""#,
    r#""\u0000""#,
    r#""a\"b\\c""#,
    r#""%s%n%d""#,
    r#""\u202ejob""#,
    r#""{\"expiresAtMs\":1}""#,
    "\"unclosed",
    "'1'",
    // Neither numbers nor texts.
    "null",
    "true",
    "false",
    "undefined",
    "",
    "[]",
    "{}",
    "[1]",
    "[[[[[[[[1]]]]]]]]",
    r#"{"expiresAtMs":1}"#,
    r#"{"$date":1}"#,
    r#"{"__proto__":null}"#,
];

/// Texts that are not records.
const FOREIGN: &[&str] = &[
    "",
    " ",
    "\n",
    "nonsense",
    "0",
    "-1",
    "1.5",
    "NaN",
    "null",
    "true",
    "[]",
    "[1,2]",
    "{}",
    "{",
    "}",
    "{}{}",
    "\"",
    "\"text\"",
    "[{}]",
    "{\"\":1}",
    "{\"value\":{}}",
    "O:8:\"stdClass\":0:{}",
    "---\nlockId: a",
    "<lock/>",
    "lockId=a&expiresAtMs=1",
    "\u{feff}{}",
    "\0",
    "{\"a\":\0}",
    "locked",
    "PONG",
    "*1\r\n$-1\r\n",
    "syncguard:job",
];

/// Depths of nesting at which a parser may fail, or should.
const DEPTHS: [usize; 4] = [100, 127, 1_001, 20_000];

/// Suffixes that may follow the end of a record.
const SUFFIXES: [&str; 7] = ["x", "}", ",", "{}", "\0", " 1", "\n"];

/// The number of texts with a few random changes, for each shape and order of the members.
const CORRUPTED_TEXTS: usize = 40;

/// Returns all texts, in which the caller replaces [`ID`] and [`KEY`]. No two are equal, and some
/// are valid records.
pub(crate) fn texts() -> BTreeSet<String> {
    let mut texts = BTreeSet::new();
    for values in mutants(&SHAPES, [ODD_VALUES; 5], 0) {
        texts.extend([object(&members(&values)), object(&reversed(&values))]);
    }
    for shape in &SHAPES {
        for members in [members(shape), reversed(shape)] {
            texts.extend(damaged(&object(&members), &SUFFIXES, CORRUPTED_TEXTS));
            texts.extend(rearranged(&members));
        }
    }
    texts.extend(FOREIGN.iter().map(|&text| text.to_owned()));
    for depth in DEPTHS {
        texts.insert("[".repeat(depth));
        texts.insert("[".repeat(depth) + &"]".repeat(depth));
        texts.insert(r#"{"a":"#.repeat(depth) + "1" + &"}".repeat(depth));
    }
    texts
}

type Member<'a> = (&'a str, &'a str);

fn members<'a>(values: &[&'a str; 5]) -> Vec<Member<'a>> {
    MEMBERS.into_iter().zip(values.iter().copied()).collect()
}

/// The scripts parse records in the order that they write differently from records in any other
/// order.
fn reversed<'a>(values: &[&'a str; 5]) -> Vec<Member<'a>> {
    members(values).into_iter().rev().collect()
}

fn object(members: &[Member<'_>]) -> String {
    let members = members.iter().filter(|(_, value)| *value != ABSENT);
    let members: Vec<_> = members.map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

/// An unknown member comes first, members are duplicated or renamed, or the record is nested in
/// another.
fn rearranged(members: &[Member<'_>]) -> Vec<String> {
    let record = object(members);
    let mut texts = vec![format!("[{record}]"), format!("{{\"value\":{record}}}")];
    for odd in ODD_VALUES.iter().step_by(5) {
        texts.push(object(&[&[("other", *odd)], members].concat()));
        texts.extend(members.iter().map(|&(name, _)| object(&[members, &[(name, *odd)]].concat())));
    }
    for (name, value) in members {
        let (member, shorter) = (format!("\"{name}\":"), format!("\"{}\":", &name[1..]));
        for other in [shorter, "\"\":".to_owned(), member.to_uppercase()] {
            texts.push(record.replace(&member, &other));
        }
        let inside = format!("\"value\":{}", object(&[(name, value)]));
        texts.push(record.replace(&format!("{member}{value}"), &inside));
    }
    texts
}

/// A record in the stored format. A duplicate member makes it invalid.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ValidRecord {
    pub(crate) lock_id: String,
    expires_at_ms: f64,
    acquired_at_ms: f64,
    #[serde(rename = "key")]
    _key: String,
    #[serde(rename = "fence")]
    _fence: String,
}

impl ValidRecord {
    pub(crate) fn read(text: &str) -> Option<Self> {
        let record: Self = serde_json::from_str(text).ok()?;
        let whole = record.expires_at_ms.fract() == 0.0 && record.acquired_at_ms.fract() == 0.0;
        whole.then_some(record)
    }

    pub(crate) fn is_expired(&self) -> bool {
        is_expired(self.expires_at_ms)
    }
}

/// No record expires during a test.
fn is_expired(expires_at_ms: f64) -> bool {
    let now = UNIX_EPOCH.elapsed().unwrap();
    expires_at_ms <= now.as_secs_f64() * 1e3 - 1e3
}

/// Returns whether a grant may replace a text: it is a record, and has expired. If a member is
/// duplicated, the last one counts.
pub(crate) fn may_be_replaced(text: &str) -> bool {
    if let Some(record) = ValidRecord::read(text) {
        return record.is_expired();
    }
    let value = serde_json::from_str(text).unwrap_or(Value::Null);
    let time = |name: &str| value[name].as_f64().filter(|time| time.fract() == 0.0);
    ["lockId", "key", "fence"].iter().all(|name| value[name].is_string())
        && time("acquiredAtMs").is_some()
        && time("expiresAtMs").is_some_and(is_expired)
}
