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
///
/// # Examples
///
/// ```
/// use syncguard_core::Fence;
///
/// // Records the highest fence that the resource has seen, and refuses lower ones.
/// fn accept(highest: &mut Fence, fence: Fence) -> bool {
///     *highest = fence.max(*highest);
///     fence == *highest
/// }
///
/// let (paused, current) = (Fence::new(33)?, Fence::new(34)?);
/// let mut highest = Fence::ZERO;
/// assert!(accept(&mut highest, current));
/// assert!(!accept(&mut highest, paused)); // its lease ended before the grant of 34
/// # Ok::<(), syncguard_core::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence(u64);

impl Fence {
    /// The highest fence that is ever granted. If the counter is at this value, an acquire fails
    /// before anything is stored. The value is 10 % below what the 15 digits can show.
    pub const LIMIT: Self = Self(900_000_000_000_000);

    /// The fence above which every grant is logged as a warning: a tenth of [`LIMIT`](Self::LIMIT).
    pub const WARNING: Self = Self(90_000_000_000_000);

    /// The value of a counter before its first grant, and the fence of a grant that was made
    /// [without a counter](crate::backend::AcquireRequest::creates_counter): it is below the fences
    /// of all others, and orders nothing.
    pub const ZERO: Self = Self(0);

    const FORMAT_LIMIT: u64 = 999_999_999_999_999;
    const DIGITS: usize = 15;

    /// Creates a fence from a number that fits into 15 digits.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] if the number is above 999999999999999.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::Fence;
    ///
    /// assert_eq!(Fence::new(42)?.to_string(), "000000000000042");
    /// assert!(Fence::new(1_000_000_000_000_000).is_err());
    /// # Ok::<(), syncguard_core::Error>(())
    /// ```
    pub fn new(number: u64) -> Result<Self, InvalidValue> {
        if number > Self::FORMAT_LIMIT {
            return Err(Invalid::LargeFence(number).into());
        }
        Ok(Self(number))
    }

    /// Returns the number.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::Fence;
    ///
    /// let fence: Fence = "000000000000042".parse()?;
    /// assert_eq!(fence.number(), 42);
    /// # Ok::<(), syncguard_core::Error>(())
    /// ```
    pub fn number(self) -> u64 {
        self.0
    }

    /// Returns the fence of the next grant, or `None` if this fence has reached
    /// [`LIMIT`](Self::LIMIT).
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::Fence;
    ///
    /// assert_eq!(Fence::ZERO.next(), Some(Fence::new(1)?));
    /// assert_eq!(Fence::LIMIT.next(), None);
    /// # Ok::<(), syncguard_core::Error>(())
    /// ```
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
    fn the_limit_has_no_next_fence() {
        assert_eq!(Fence::LIMIT.next(), None);
        assert_eq!(Fence(Fence::LIMIT.0 - 1).next(), Some(Fence::LIMIT));
    }

    #[test]
    fn text_that_is_not_15_digits_is_rejected() {
        for text in ["", "1", "00000000000001", "0000000000000001", "+00000000000001", "٠٠٠٠٠٠٠"]
        {
            assert!(text.parse::<Fence>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn texts_sort_as_the_numbers_do(one in NUMBERS, other in NUMBERS) {
            let (a, b) = (Fence::new(one).unwrap(), Fence::new(other).unwrap());
            prop_assert_eq!(a.to_string().cmp(&b.to_string()), one.cmp(&other));
            prop_assert_eq!(a.cmp(&b), one.cmp(&other));
        }

        #[test]
        fn a_fence_round_trips_through_text_and_serde(number in NUMBERS) {
            let fence = Fence::new(number).unwrap();
            prop_assert_eq!(fence.to_string().parse::<Fence>().unwrap(), fence);
            let json = serde_json::to_string(&fence).unwrap();
            prop_assert_eq!(serde_json::from_str::<Fence>(&json).unwrap(), fence);
        }
    }
}
