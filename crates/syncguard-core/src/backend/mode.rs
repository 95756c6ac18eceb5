use std::{fmt, num::NonZeroU32};

/// Selects whether others may hold a key at the same time.
///
/// # Examples
///
/// ```
/// use std::num::NonZeroU32;
/// use syncguard_core::backend::Mode;
///
/// assert_eq!(Mode::default(), Mode::Exclusive);
/// assert_eq!(Mode::SHARED.permits(), None);
/// let semaphore = Mode::Shared { permits: NonZeroU32::new(4) };
/// assert_eq!(semaphore.permits(), NonZeroU32::new(4));
/// assert_eq!(semaphore.to_string(), "shared mode with 4 permits");
/// ```
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// No one else holds the key.
    #[default]
    Exclusive,
    /// Others may hold the key in the same mode, with the same number of permits. A backend whose
    /// [`Capabilities`](crate::backend::Capabilities) do not include `shared` returns
    /// [`Unsupported`](crate::ErrorKind::Unsupported).
    Shared {
        /// How many may hold the key at once, as with a semaphore; `None` for any number, as with
        /// the readers of a read-write lock.
        permits: Option<NonZeroU32>,
    },
}

impl Mode {
    /// Any number of holders at once, as with the readers of a read-write lock.
    pub const SHARED: Self = Self::Shared { permits: None };

    /// Returns whether others may hold the key at the same time.
    pub const fn is_shared(self) -> bool {
        matches!(self, Self::Shared { .. })
    }

    /// Returns how many may hold the key at once, if the mode limits that by a number of permits.
    pub const fn permits(self) -> Option<NonZeroU32> {
        match self {
            Self::Exclusive => None,
            Self::Shared { permits } => permits,
        }
    }

    /// Returns its name in logs and metrics. The name is stable.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exclusive => "exclusive",
            Self::Shared { .. } => "shared",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.permits() {
            None => write!(f, "{} mode", self.as_str()),
            Some(permits) => write!(f, "{} mode with {permits} permits", self.as_str()),
        }
    }
}
