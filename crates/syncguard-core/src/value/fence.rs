use std::{fmt, str::FromStr};

use super::{
    invalid::{Invalid, InvalidValue},
    serde_as_text,
};

/// Orders the grants of one key: a later grant always has a higher fence.
///
/// Pass it to the resource that the lock protects, and let the resource refuse any fence lower than
/// the highest that it has seen. Only this stops a holder that was paused past its lease. The
/// method is described in Martin Kleppmann, "How to do distributed locking" (2016).
///
/// Its text is 15 zero-padded decimal digits, so that texts sort as the numbers do. The first grant
/// of a key is `000000000000001`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence(u64);

impl Fence {
    /// The highest fence that is ever granted. A counter at this value refuses before it stores
    /// anything. The value is 10 % below what the 15 digits can show.
    pub const LIMIT: Self = Self(900_000_000_000_000);

    /// The fence above which every grant is logged as a warning: a tenth of [`LIMIT`](Self::LIMIT).
    pub const WARNING: Self = Self(90_000_000_000_000);

    /// The value of a counter before its first grant.
    pub const ZERO: Self = Self(0);

    const FORMAT_LIMIT: u64 = 999_999_999_999_999;
    const DIGITS: usize = 15;

    /// Creates a fence from a number that fits into 15 digits.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] if the number is above 999999999999999.
    pub fn new(number: u64) -> Result<Self, InvalidValue> {
        if number > Self::FORMAT_LIMIT {
            return Err(Invalid::LargeFence(number).into());
        }
        Ok(Self(number))
    }

    /// Returns the number.
    pub fn number(self) -> u64 {
        self.0
    }

    /// Returns the fence of the next grant, or `None` if this fence has reached
    /// [`LIMIT`](Self::LIMIT).
    pub fn next(self) -> Option<Self> {
        (self < Self::LIMIT).then_some(Self(self.0 + 1))
    }

    fn to_text(self) -> String {
        self.to_string()
    }
}

impl FromStr for Fence {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let digits = text.len() == Self::DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.then(|| text.parse().ok()).flatten();
        number.map(Self).ok_or_else(|| Invalid::FenceText(text.chars().take(32).collect()).into())
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:015}", self.0)
    }
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fence({self})")
    }
}

serde_as_text!(Fence);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Fence;

    const NUMBERS: std::ops::RangeInclusive<u64> = 0..=999_999_999_999_999;

    #[test]
    fn no_fence_follows_the_limit() {
        assert_eq!(Fence::LIMIT.next(), None);
        assert_eq!(Fence(Fence::LIMIT.0 - 1).next(), Some(Fence::LIMIT));
    }

    #[test]
    fn text_of_another_shape_is_refused() {
        for text in ["", "1", "00000000000001", "0000000000000001", "+00000000000001", "٠٠٠٠٠٠٠"]
        {
            assert!(text.parse::<Fence>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn text_orders_as_the_numbers_do(one in NUMBERS, other in NUMBERS) {
            let (a, b) = (Fence::new(one).unwrap(), Fence::new(other).unwrap());
            prop_assert_eq!(a.to_string().cmp(&b.to_string()), one.cmp(&other));
            prop_assert_eq!(a.cmp(&b), one.cmp(&other));
        }

        #[test]
        fn text_and_serde_give_the_fence_back(number in NUMBERS) {
            let fence = Fence::new(number).unwrap();
            prop_assert_eq!(fence.to_string().parse::<Fence>().unwrap(), fence);
            let json = serde_json::to_string(&fence).unwrap();
            prop_assert_eq!(serde_json::from_str::<Fence>(&json).unwrap(), fence);
        }
    }
}
