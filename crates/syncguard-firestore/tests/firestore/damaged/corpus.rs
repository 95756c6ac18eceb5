//! The damaged documents, and the expected outcome for each.

use gcloud_sdk::{
    google::{
        firestore::v1::{Value, value::ValueType},
        r#type::LatLng,
    },
    prost_types::Timestamp,
};
use syncguard_core::{Fence, LockId, LockKey};
use syncguard_testkit::mutants::mutants;

use crate::raw::{Fields, array, double, integer, map, record, text, tombstone};

/// Placeholders for the key of the documents and for their own id.
const KEY: &str = "KEY";
const ID: &str = "ID";

const ANOTHER_ID: &str = "ABCDEFGHIJKLMNOPQRSTUV";

/// The expiries of a live lock and of an expired lock.
const LIVE: i64 = 4_000_000_000_000;
const EXPIRED: i64 = 1_000_000;

/// Returns live locks, expired locks and free keys, each with one of its two documents damaged, and
/// documents with entirely different fields.
pub(super) fn corpus() -> Vec<Damaged> {
    let lock = |expires: i64| {
        [
            ("lockId", text(ID)),
            ("expiresAtMs", integer(expires)),
            ("acquiredAtMs", integer(1)),
            ("key", text(KEY)),
            ("fence", text("000000000000007")),
            ("owner", text("web-3")),
        ]
    };
    let counter = [
        ("fence", text("000000000000007")),
        ("keyDebug", text(KEY)),
        ("abandoned", tombstone(&"-".repeat(22), LIVE)),
    ];
    let values = values();
    let mut foreign: Vec<_> = values.iter().map(|value| record([("x", value.clone())])).collect();
    foreign.push(Fields::new());
    let whole = Some(record(counter.clone()));
    let mut corpus = Vec::new();
    for locks in [damaged(&lock(LIVE), &values), damaged(&lock(EXPIRED), &values), foreign.clone()]
    {
        corpus.extend(locks.into_iter().map(|lock| (Some(lock), whole.clone())));
    }
    for lock in [None, Some(record(lock(EXPIRED)))] {
        for counters in [damaged(&counter, &values), foreign.clone()] {
            corpus.extend(counters.into_iter().map(|counter| (lock.clone(), Some(counter))));
        }
    }
    corpus.extend(foreign.into_iter().map(|lock| (Some(lock), None)));
    let numbered = corpus.into_iter().enumerate();
    numbered.map(|(number, (lock, counter))| Damaged::new(number, lock, counter)).collect()
}

/// Derives documents from one: with each of the values in each field, and without the field, alone
/// and together with damage to each other field.
fn damaged<const N: usize>(whole: &[(&str, ValueType); N], values: &[ValueType]) -> Vec<Fields> {
    let columns: [Vec<_>; N] = std::array::from_fn(|column| {
        let mut column_values: Vec<_> = values.iter().map(Some).chain([None]).collect();
        // Each column starts at another value, so that different values are combined.
        column_values.rotate_left(column * 5);
        column_values
    });
    let shape = whole.each_ref().map(|(_, value)| Some(value));
    let document = |values: [Option<&ValueType>; N]| {
        let fields = whole.iter().zip(values);
        fields.filter_map(|((name, _), value)| Some(((*name).to_owned(), value?.clone()))).collect()
    };
    let columns = columns.each_ref().map(Vec::as_slice);
    mutants(&[shape], columns, 1).into_iter().map(document).collect()
}

fn values() -> Vec<ValueType> {
    let name = "projects/p/databases/(default)/documents/locks/job".to_owned();
    let texts = ["", "7", "-1", "NaN", "0x7f", "a\0\u{202e}", ANOTHER_ID];
    let fences = ["000000000000000", "000000000000008", "900000000000000", "999999999999999"];
    let long = "x".repeat(3_000);
    let texts = texts.into_iter().chain(fences).chain([long.as_str()]).map(text);
    let integers = [0, -1, i64::MIN, i64::MAX].map(integer);
    let doubles = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1e300, 1.5, -0.0, 7.0];
    let others = [
        ValueType::NullValue(0),
        ValueType::BooleanValue(true),
        ValueType::BytesValue(b"000000000000007".to_vec()),
        ValueType::TimestampValue(Timestamp { seconds: LIVE / 1_000, nanos: 0 }),
        ValueType::ReferenceValue(name),
        ValueType::GeoPointValue(LatLng { latitude: 1.0, longitude: -1.0 }),
        array([]),
        array([text("000000000000007"), map([("a", double(f64::NAN))])]),
        map([]),
        // Maps have at most one field, so that their debug output is unambiguous.
        map([("lockId", map([("deeper", array([integer(1)]))]))]),
        tombstone(ANOTHER_ID, i64::MAX),
        tombstone(ANOTHER_ID, -1),
    ];
    texts.chain(integers).chain(doubles.map(double)).chain(others).collect()
}

/// The documents of a key.
#[derive(Debug)]
pub(super) struct Damaged {
    pub(super) key: String,
    pub(super) lock: Option<Fields>,
    pub(super) counter: Option<Fields>,
}

/// The expected outcome of an acquire of the key by another id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    Grant(u64),
    /// The lock is live.
    Contended,
    /// The lock cannot be read.
    UnreadableLock,
    /// The lock has expired or is missing, and the counter cannot be read, is behind it or at its
    /// limit.
    UnusableCounter,
}

impl Damaged {
    fn new(number: usize, lock: Option<Fields>, counter: Option<Fields>) -> Self {
        let mut damaged = Self { key: format!("k{number}"), lock, counter };
        let (id, key) = (damaged.id(), damaged.key.clone());
        for fields in [&mut damaged.lock, &mut damaged.counter].into_iter().flatten() {
            for field in fields.values_mut() {
                if *field == text(ID) {
                    *field = text(&id);
                } else if *field == text(KEY) {
                    *field = text(&key);
                }
            }
        }
        damaged
    }

    pub(super) fn expected(&self) -> Expected {
        let lock = self.lock.as_ref().map(readable);
        let last = match (lock, &self.counter) {
            (Some(None), _) => return Expected::UnreadableLock,
            (Some(Some((expiry, _))), _) if expiry >= LIVE => return Expected::Contended,
            (None, None) => Some(Fence::ZERO),
            (Some(_), None) => None,
            (lock, Some(counter)) => {
                let last: Option<Fence> = string(counter, "fence").and_then(|it| it.parse().ok());
                let last = last.filter(|last| lock.flatten().is_none_or(|(_, of)| of <= *last));
                last.filter(|_| tombstones_are_readable(counter))
            }
        };
        let next = last.and_then(Fence::next);
        next.map_or(Expected::UnusableCounter, |next| Expected::Grant(next.number()))
    }

    /// Returns whether the lock contains this id.
    pub(super) fn has_id(&self) -> bool {
        self.lock.as_ref().and_then(|lock| string(lock, "lockId")).is_some_and(|it| it == self.id())
    }

    pub(super) fn id(&self) -> String {
        format!("{:A>22}", self.key)
    }
}

/// Returns the expiry and the fence of a lock, if it can be read.
fn readable(lock: &Fields) -> Option<(i64, Fence)> {
    string(lock, "lockId")?.parse::<LockId>().ok()?;
    string(lock, "key")?.parse::<LockKey>().ok()?;
    integer_in(lock, "acquiredAtMs")?;
    Some((integer_in(lock, "expiresAtMs")?, string(lock, "fence")?.parse().ok()?))
}

pub(super) fn tombstones_are_readable(counter: &Fields) -> bool {
    match counter.get("abandoned") {
        None => true,
        Some(ValueType::MapValue(tombstones)) => {
            let is_integer =
                |time: &Value| matches!(time.value_type, Some(ValueType::IntegerValue(_)));
            tombstones.fields.values().all(is_integer)
        }
        Some(_) => false,
    }
}

pub(super) fn string<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    match fields.get(name)? {
        ValueType::StringValue(text) => Some(text),
        _ => None,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "it is whole and small")]
fn integer_in(fields: &Fields, name: &str) -> Option<i64> {
    match fields.get(name)? {
        ValueType::IntegerValue(number) => Some(*number),
        ValueType::DoubleValue(number) => {
            let is_whole = number.abs() < 1e15 && number.fract() == 0.0;
            is_whole.then_some(*number as i64)
        }
        _ => None,
    }
}
