//! Moments in a file. An [`Instant`] means nothing to another process, so it is written as a time of the other clock.
//! This is for serde: `#[serde(with = "crate::moment")]`.

use std::{
    cell::Cell,
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

thread_local! {
    /// The same moment on both clocks, while a file is written or read.
    static CLOCKS: Cell<Option<(Instant, SystemTime)>> = const { Cell::new(None) };
}

/// Calls `work`, in which moments are converted by these two clocks.
pub(crate) fn by<T>(clocks: (Instant, SystemTime), work: impl FnOnce() -> T) -> T {
    CLOCKS.set(Some(clocks));
    let done = work();
    CLOCKS.set(None);
    done
}

fn clocks() -> (Instant, SystemTime) {
    CLOCKS.get().unwrap_or_else(|| (Instant::now(), SystemTime::now()))
}

/// The longest time between a moment and now. It keeps a wrong clock from an overflow.
const LONGEST: i128 = 100 * 365 * 24 * 3600 * 1_000_000_000;

/// What has moments in it.
pub(crate) trait Moments: Sized {
    type Stored: Serialize + DeserializeOwned;
    fn stored(&self) -> Self::Stored;
    fn restored(stored: Self::Stored) -> Self;
}

/// Nanoseconds since 1970.
impl Moments for Instant {
    type Stored = i128;

    fn stored(&self) -> i128 {
        let (instant, time) = clocks();
        let nanos = |time: Duration| i128::try_from(time.as_nanos()).unwrap_or(LONGEST);
        let now = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, nanos);
        match instant.checked_duration_since(*self) {
            Some(age) => now - nanos(age),
            None => now + nanos(self.saturating_duration_since(instant)),
        }
    }

    fn restored(stored: i128) -> Self {
        let (instant, time) = clocks();
        let now = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_nanos());
        let now = i128::try_from(now).unwrap_or(0);
        // a moment of the past is never one of the future, even if the clock was set back
        let age = now.saturating_sub(stored).clamp(0, LONGEST);
        let age = Duration::from_nanos(u64::try_from(age).unwrap_or(u64::MAX));
        instant.checked_sub(age).unwrap_or(instant)
    }
}

impl<T: Moments> Moments for Option<T> {
    type Stored = Option<T::Stored>;

    fn stored(&self) -> Self::Stored {
        self.as_ref().map(T::stored)
    }

    fn restored(stored: Self::Stored) -> Self {
        stored.map(T::restored)
    }
}

impl<T: Moments> Moments for (T, u64) {
    type Stored = (T::Stored, u64);

    fn stored(&self) -> Self::Stored {
        (self.0.stored(), self.1)
    }

    fn restored((stored, number): Self::Stored) -> Self {
        (T::restored(stored), number)
    }
}

impl Moments for (Instant, Instant) {
    type Stored = (i128, i128);

    fn stored(&self) -> Self::Stored {
        (self.0.stored(), self.1.stored())
    }

    fn restored((one, other): Self::Stored) -> Self {
        (Instant::restored(one), Instant::restored(other))
    }
}

impl<T: Moments> Moments for BTreeMap<String, T> {
    type Stored = BTreeMap<String, T::Stored>;

    fn stored(&self) -> Self::Stored {
        self.iter().map(|(name, moments)| (name.clone(), moments.stored())).collect()
    }

    fn restored(stored: Self::Stored) -> Self {
        stored.into_iter().map(|(name, stored)| (name, T::restored(stored))).collect()
    }
}

/// # Errors
/// If the serializer fails.
pub(crate) fn serialize<T: Moments, S: Serializer>(moments: &T, serializer: S) -> Result<S::Ok, S::Error> {
    moments.stored().serialize(serializer)
}

/// # Errors
/// If the deserializer fails.
pub(crate) fn deserialize<'de, T: Moments, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::Stored::deserialize(deserializer).map(T::restored)
}
