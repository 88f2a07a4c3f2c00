//! The settings of a judge.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::numbers::{Burn, Fraction, Ratio, Tolerance};

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
    /// If requests are divided into strata, a promotion takes this many answers of the canary in each of those that stable has
    /// seen.
    pub min_answers: u64,
    /// Answers that take longer count as failures. In JSON `max_latency_ms`, in milliseconds.
    #[serde(
        rename = "max_latency_ms",
        serialize_with = "milliseconds",
        deserialize_with = "of_milliseconds"
    )]
    pub max_latency: Option<Duration>,
    /// A canary that is slower than stable by more than this part of stable's latency is rolled back. `None` if the latency
    /// decides nothing.
    #[serde(default)]
    pub slower_by: Option<Tolerance>,
    /// Answers of pods that started less than this before are left out. In JSON `warm_up_ms`, in milliseconds. The judge has
    /// no clock: your program passes [`Request::is_warm_up`](crate::Request::is_warm_up) or
    /// [`Window::is_warm_up`](crate::Window::is_warm_up).
    #[serde(rename = "warm_up_ms", serialize_with = "milliseconds", deserialize_with = "of_milliseconds")]
    pub warm_up: Option<Duration>,
    /// Pods may fail in episodes of up to this time, and may differ: a canary is rolled back only if it also fails in more
    /// episodes, and by more than stable's pods differ among themselves. `None` if each request counts as an observation of
    /// its own. In JSON `episodes_ms`, in milliseconds. It needs [`Request::sent`](crate::Request::sent), or the
    /// [`Window`](crate::Window)s of single pods, and makes no difference without them.
    #[serde(
        default,
        rename = "episodes_ms",
        serialize_with = "milliseconds",
        deserialize_with = "of_milliseconds"
    )]
    pub episodes: Option<Duration>,
    /// The service level objective: the share of requests that must succeed. It decides nothing.
    pub slo: Fraction,
    /// While the canary is on trial, it may burn the error budget of the whole service at most this many times as fast as
    /// allowed: [`Verdict::max_share`](crate::Verdict::max_share) follows from it. `None` is
    /// `max_failure_rate` / (1 − `slo`): what a canary at the limit burns with all traffic. It decides nothing.
    pub max_burn: Option<Burn>,
}

impl Default for Settings {
    /// α = 0.05, a failure rate of at most 1 %, a ratio of at most 2, no answers in each stratum, latency decides nothing, no
    /// warm-up, no episodes, and an objective of 99.9 %.
    fn default() -> Self {
        Self {
            alpha: Fraction::FIVE_PERCENT,
            max_failure_rate: Fraction::ONE_PERCENT,
            max_ratio: Ratio::TWICE,
            min_answers: 0,
            max_latency: None,
            slower_by: None,
            warm_up: None,
            episodes: None,
            slo: Fraction::THREE_NINES,
            max_burn: None,
        }
    }
}

impl Settings {
    /// How many times as long as stable the canary may take.
    pub(crate) fn latency_factor(&self) -> f64 {
        1.0 + self.slower_by.map_or(0.0, Tolerance::get)
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
