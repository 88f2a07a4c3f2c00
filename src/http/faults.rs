//! Faults on demand, so that a canary can be had that fails now and then, or answers late. Labels of the pod set
//! them:
//!
//! - `fault-percent`, 0 to 100: the share of requests that fail.
//! - `fault-delay-ms`, 0 to 60000: how long an answer is held back, in milliseconds.
//! - `fault-delay-percent`, 0 to 100: of how many requests; without it, of all.
//!
//! The service behind this layer knows nothing of it.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tower::{Layer, Service};

use crate::labels::Labels;

/// A label that sets a number.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The label's key.
    pub label: &'static str,
    /// What values would do, in words.
    pub want: &'static str,
    /// The number is from 0 to this.
    max: f64,
}

const SHARE: &str = "a number from 0 to 100, such as 5 or 0.5, without a percent sign";
const MILLISECONDS: &str = "a number of milliseconds from 0 to 60000, such as 300, without a unit";

/// The share of requests that fail, in percent.
pub const FAULT_PERCENT: Setting = Setting { label: "fault-percent", want: SHARE, max: 100.0 };
/// How long an answer is held back, in milliseconds.
pub const FAULT_DELAY_MS: Setting = Setting { label: "fault-delay-ms", want: MILLISECONDS, max: 60_000.0 };
/// The share of answers that are held back, in percent.
pub const FAULT_DELAY_PERCENT: Setting = Setting { label: "fault-delay-percent", want: SHARE, max: 100.0 };

impl Setting {
    /// The number, if the value is one: `[0-9]+(\.[0-9]+)?`, and in range.
    pub fn parse(&self, value: &str) -> Option<f64> {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let (whole, fraction) = value.split_once('.').unwrap_or((value, "0"));
        if !digits(whole) || !digits(fraction) {
            return None;
        }
        value.parse().ok().filter(|number| *number <= self.max)
    }
}

/// How often requests fail, and how often and how long their answers are held back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Dial {
    /// The probability of a failure, from 0 to 1.
    failing: f64,
    delay: Duration,
    /// The probability of the delay, from 0 to 1.
    delayed: f64,
}

impl Dial {
    /// The dial as labels set it. A label with an unusable value counts as not there. That is logged, unless
    /// the labels `before` these had the same value.
    pub(super) fn new(labels: &Labels, before: Option<&Labels>) -> Self {
        let number = |setting: &Setting| {
            let value = labels.get(setting.label)?;
            let number = setting.parse(value);
            if number.is_none() && before.and_then(|before| before.get(setting.label)) != Some(value) {
                let Setting { label, want, .. } = setting;
                tracing::warn!(label, value, want, "ignoring a label whose value is unusable");
            }
            number
        };
        Self {
            failing: number(&FAULT_PERCENT).unwrap_or(0.0) / 100.0,
            delay: Duration::from_secs_f64(number(&FAULT_DELAY_MS).unwrap_or(0.0) / 1000.0),
            delayed: number(&FAULT_DELAY_PERCENT).unwrap_or(100.0) / 100.0,
        }
    }

    /// Whether no request fails, and no answer is held back.
    pub(super) fn is_off(&self) -> bool {
        self.failing <= 0.0 && self.delay.is_zero()
    }

    /// Whether the next request fails. Independent of any other decision.
    fn fails(&self) -> bool {
        self.failing > 0.0 && fastrand::f64() < self.failing
    }

    /// How long the next answer is held back, if it is. Independent of any other decision.
    fn holds_back(&self) -> Option<Duration> {
        (!self.delay.is_zero() && fastrand::f64() < self.delayed).then_some(self.delay)
    }
}

/// Has requests fail and answers held back. Each request comes with the [`Dial`] that holds for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct FaultLayer;

impl<S> Layer<S> for FaultLayer {
    type Service = Faults<S>;

    fn layer(&self, inner: S) -> Faults<S> {
        Faults { inner }
    }
}

/// A service behind a [`FaultLayer`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Faults<S> {
    inner: S,
}

/// A request that the dial has fail: the service behind the layer does not get it.
#[derive(Debug)]
pub(super) struct Failed<R>(pub(super) R);

impl<S, R> Service<(Dial, R)> for Faults<S>
where
    S: Service<R, Error = Infallible>,
{
    type Response = S::Response;
    type Error = Failed<R>;
    type Future = Faulty<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed<R>>> {
        self.inner.poll_ready(cx).map(|ready| ready.map_err(|never| match never {}))
    }

    fn call(&mut self, (dial, request): (Dial, R)) -> Self::Future {
        let delay = dial.holds_back().map(|time| Box::pin(sleep(time)));
        if dial.fails() {
            Faulty { delay, answer: None, failed: Some(request) }
        } else {
            Faulty { delay, answer: Some(self.inner.call(request)), failed: None }
        }
    }
}

pin_project! {
    /// What becomes of a request. It holds no thread while it waits, and dropping it ends the wait.
    pub(super) struct Faulty<F, R> {
        delay: Option<Pin<Box<Sleep>>>,
        #[pin]
        answer: Option<F>,
        failed: Option<R>,
    }
}

impl<T, R, F> Future for Faulty<F, R>
where
    F: Future<Output = Result<T, Infallible>>,
{
    type Output = Result<T, Failed<R>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Some(delay) = this.delay {
            ready!(delay.as_mut().poll(cx));
            *this.delay = None;
        }
        if let Some(request) = this.failed.take() {
            return Poll::Ready(Err(Failed(request)));
        }
        let answer = this.answer.as_pin_mut().expect("not polled again after a failure");
        answer.poll(cx).map(|answer| answer.map_err(|never| match never {}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dial(labels: &str) -> Dial {
        Dial::new(&Labels::parse(labels.as_bytes()), None)
    }

    #[test]
    fn numbers_are_digits_with_at_most_one_dot_between_them_and_in_range() {
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
        let endless = "9".repeat(400);
        for value in [
            "", "five", "-1", "+1", "101", "100.01", "NaN", "nan", "inf", "1e1", "0x5", ".5", "5.", ".",
            "1.2.3", "5%", "1,5", "1_0", "5 5", "٥", "5\0", &endless,
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
        assert_eq!(dial("release=\"stable\"").holds_back(), None);
        assert!(!dial("release=\"stable\"").fails());
        let set = dial("fault-percent=\"0.5\"\nfault-delay-ms=\"1500.5\"\nfault-delay-percent=\"25\"");
        let delay = Duration::from_micros(1_500_500);
        assert_eq!(set, Dial { failing: 0.005, delay, delayed: 0.25 });
        assert_eq!(
            dial("fault-delay-ms=\"300\""),
            dial("fault-delay-ms=\"300\"\nfault-delay-percent=\"100\""),
            "all, unless it is said of how many"
        );
        assert_eq!(dial("fault-delay-percent=\"50\"").holds_back(), None, "no delay, of however many");
    }

    #[test]
    fn an_unusable_value_counts_as_no_label_and_the_others_still_count() {
        assert_eq!(dial("fault-percent=\"five\"\nfault-delay-ms=\"300\""), dial("fault-delay-ms=\"300\""));
        assert_eq!(dial("fault-percent=\"5\"\nfault-delay-ms=\"70000\""), dial("fault-percent=\"5\""));
        assert_eq!(
            dial("fault-delay-ms=\"300\"\nfault-delay-percent=\"-1\""),
            dial("fault-delay-ms=\"300\"")
        );
    }
}
