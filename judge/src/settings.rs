//! The settings of a judge.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::numbers::{Burn, Fraction, Ratio};

/// The settings of a judge.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct Settings {
    /// The maximum probability, however often you look, of a roll-back although the canary is no worse than
    /// stable. Also the maximum probability of a promotion although the canary fails more than
    /// `max_failure_rate` and more than `max_ratio` times as often as stable.
    pub alpha: Fraction,
    /// The failure rate that a canary may have, whatever the failure rate of stable is.
    pub max_failure_rate: Fraction,
    /// A canary may fail this many times as often as stable, while stable itself fails more than
    /// `max_failure_rate`.
    pub max_ratio: Ratio,
    /// Answers that take longer count as failures. In JSON `max_latency_ms`, in milliseconds.
    #[serde(
        rename = "max_latency_ms",
        serialize_with = "milliseconds",
        deserialize_with = "of_milliseconds"
    )]
    pub max_latency: Option<Duration>,
    /// Answers of pods that started less than this before are left out. In JSON `warm_up_ms`, in milliseconds. The judge has
    /// no clock: your program passes [`Request::is_warm_up`](crate::Request::is_warm_up) or
    /// [`Window::is_warm_up`](crate::Window::is_warm_up).
    #[serde(rename = "warm_up_ms", serialize_with = "milliseconds", deserialize_with = "of_milliseconds")]
    pub warm_up: Option<Duration>,
    /// The service level objective: the share of requests that must succeed. It decides nothing.
    pub slo: Fraction,
    /// While the canary is on trial, it may burn the error budget of the whole service at most this many times as fast as
    /// allowed: [`Verdict::max_share`](crate::Verdict::max_share) follows from it. `None` is
    /// `max_failure_rate` / (1 − `slo`): what a canary at the limit burns with all traffic. It decides nothing.
    pub max_burn: Option<Burn>,
}

impl Default for Settings {
    /// α = 0.05, a failure rate of at most 1 %, a ratio of at most 2, no limit on latency, no warm-up, and an objective of
    /// 99.9 %.
    fn default() -> Self {
        let (alpha, max_failure_rate) = (Fraction::FIVE_PERCENT, Fraction::ONE_PERCENT);
        Self {
            alpha,
            max_failure_rate,
            max_ratio: Ratio::TWICE,
            max_latency: None,
            warm_up: None,
            slo: Fraction::THREE_NINES,
            max_burn: None,
        }
    }
}

#[expect(clippy::ref_option, reason = "serde defines the signature")]
fn milliseconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.as_secs_f64() * 1e3).serialize(serializer)
}

fn of_milliseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let time = Option::<f64>::deserialize(deserializer)?;
    time.map(|time| Duration::try_from_secs_f64(time / 1e3)).transpose().map_err(de::Error::custom)
}
