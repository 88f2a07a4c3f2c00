//! Faults on demand: a canary that fails some requests or answers late. Labels of the pod set them:
//!
//! - `fault-percent`, 0 to 100: the share of requests that fail.
//! - `fault-delay-ms`, 0 to 60000: how long an answer is delayed, in milliseconds.
//! - `fault-delay-percent`, 0 to 100: the share of answers that are delayed; without this label, all are.
//!
//! The service is unaware of faults.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::sleep;

use super::{Reading, failure::Failure};
use crate::labels::Labels;

/// A label that sets a number.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The label's key.
    pub label: &'static str,
    /// A description of the valid values.
    pub want: &'static str,
    /// The largest valid number; the smallest is 0.
    max: f64,
}

const SHARE: &str = "a number from 0 to 100, such as 5 or 0.5, without a percent sign";
const MILLISECONDS: &str = "a number of milliseconds from 0 to 60000, such as 300, without a unit";

/// The share of requests that fail, in percent.
pub const FAULT_PERCENT: Setting = Setting { label: "fault-percent", want: SHARE, max: 100.0 };
/// How long an answer is delayed, in milliseconds.
pub const FAULT_DELAY_MS: Setting = Setting { label: "fault-delay-ms", want: MILLISECONDS, max: 60_000.0 };
/// The share of answers that are delayed, in percent.
pub const FAULT_DELAY_PERCENT: Setting = Setting { label: "fault-delay-percent", want: SHARE, max: 100.0 };

impl Setting {
    /// The number, if the value matches `[0-9]+(\.[0-9]+)?` and is in range.
    pub fn parse(&self, value: &str) -> Option<f64> {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let (whole, fraction) = value.split_once('.').unwrap_or((value, "0"));
        if !digits(whole) || !digits(fraction) {
            return None;
        }
        value.parse().ok().filter(|number| *number <= self.max)
    }
}

/// How often requests fail, and how often and how long their answers are delayed.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Dial {
    /// From 0 to 1.
    failure_probability: f64,
    delay: Duration,
    /// From 0 to 1.
    delay_probability: f64,
}

impl Dial {
    /// Reads the dial from labels. A label with an invalid value is ignored. A warning is logged, unless `before`,
    /// the previous labels, had the same value.
    fn new(labels: &Labels, before: Option<&Labels>) -> Self {
        let number = |setting: &Setting| {
            let value = labels.get(setting.label)?;
            let number = setting.parse(value);
            if number.is_none() && before.and_then(|before| before.get(setting.label)) != Some(value) {
                let Setting { label, want, .. } = setting;
                tracing::warn!(label, value, want, "ignoring a label with an invalid value");
            }
            number
        };
        Self {
            failure_probability: number(&FAULT_PERCENT).unwrap_or(0.0) / 100.0,
            delay: Duration::from_secs_f64(number(&FAULT_DELAY_MS).unwrap_or(0.0) / 1000.0),
            delay_probability: number(&FAULT_DELAY_PERCENT).unwrap_or(100.0) / 100.0,
        }
    }

    /// Decides at random whether the next request fails. All decisions are independent.
    fn next_fails(&self) -> bool {
        self.failure_probability > 0.0 && fastrand::f64() < self.failure_probability
    }

    /// Decides at random whether the next answer is delayed, and how long. All decisions are independent.
    fn next_delay(&self) -> Option<Duration> {
        (!self.delay.is_zero() && fastrand::f64() < self.delay_probability).then_some(self.delay)
    }
}

/// The dial for the current labels.
#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<Option<(Arc<Labels>, Dial)>>);

impl Faults {
    /// Makes a request fail or delays its answer, as the labels say. The service does not receive a request that fails.
    ///
    /// (As a middleware of its own, this would cost every request several allocations.)
    pub(super) async fn inject<T>(
        &self,
        reading: &Reading,
        answer: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let Ok(labels) = reading else { return answer() };
        let dial = self.dial(labels);
        let delay = dial.next_delay();
        let answer = if dial.next_fails() { Err(Failure::Injected(FAULT_PERCENT.label)) } else { answer() };
        if let Some(delay) = delay {
            sleep(delay).await;
        }
        answer
    }

    fn dial(&self, labels: &Arc<Labels>) -> Dial {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*cache {
            Some((cached, dial)) if Arc::ptr_eq(cached, labels) => *dial,
            before => {
                let dial = Dial::new(labels, before.as_ref().map(|(before, _)| &**before));
                *cache = Some((Arc::clone(labels), dial));
                dial
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dial(labels: &str) -> Dial {
        Dial::new(&Labels::parse(labels.as_bytes()), None)
    }

    #[test]
    fn a_number_has_only_digits_and_at_most_one_dot_between_them_and_is_in_range() {
        for (value, number) in [
            ("0", 0.0),
            ("5", 5.0),
            ("007", 7.0),
            ("0.5", 0.5),
            ("12.25", 12.25),
            ("100", 100.0),
            ("100.000", 100.0),
        ] {
            assert_eq!(FAULT_PERCENT.parse(value), Some(number), "{value}");
        }
        let too_long = "9".repeat(400);
        for value in [
            "", "five", "-1", "+1", "101", "100.01", "NaN", "nan", "inf", "1e1", "0x5", ".5", "5.", ".",
            "1.2.3", "5%", "1,5", "1_0", "5 5", "٥", "5\0", &too_long,
        ] {
            assert_eq!(FAULT_PERCENT.parse(value), None, "{value:?}");
        }
        assert_eq!(
            (FAULT_DELAY_MS.parse("60000"), FAULT_DELAY_MS.parse("60000.1"), FAULT_DELAY_MS.parse("60001")),
            (Some(6e4), None, None)
        );
    }

    #[test]
    fn labels_set_the_dial() {
        assert_eq!(dial("release=\"stable\"").next_delay(), None);
        assert!(!dial("release=\"stable\"").next_fails());
        let set = dial("fault-percent=\"0.5\"\nfault-delay-ms=\"1500.5\"\nfault-delay-percent=\"25\"");
        let delay = Duration::from_micros(1_500_500);
        assert_eq!(set, Dial { failure_probability: 0.005, delay, delay_probability: 0.25 });
        assert_eq!(
            dial("fault-delay-ms=\"300\""),
            dial("fault-delay-ms=\"300\"\nfault-delay-percent=\"100\""),
            "all answers are delayed by default"
        );
        assert_eq!(dial("fault-delay-percent=\"50\"").next_delay(), None, "a share without a delay");
    }

    #[test]
    fn a_label_with_an_invalid_value_is_ignored_and_the_others_apply() {
        assert_eq!(dial("fault-percent=\"five\"\nfault-delay-ms=\"300\""), dial("fault-delay-ms=\"300\""));
        assert_eq!(dial("fault-percent=\"5\"\nfault-delay-ms=\"70000\""), dial("fault-percent=\"5\""));
        assert_eq!(
            dial("fault-delay-ms=\"300\"\nfault-delay-percent=\"-1\""),
            dial("fault-delay-ms=\"300\"")
        );
    }
}
