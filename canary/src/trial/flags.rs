//! The flags of a trial.

use std::{
    io,
    time::{Duration, Instant},
};

use canary_judge::{Budget, Burn, Fraction, InvalidNumber, Ratio, Settings, Tolerance, Traffic};
use clap::Args;

use super::{Coverage, Trial};
use crate::source::{
    opened::{count, duration},
    strata::DIVIDING,
};

/// How to judge.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Judge")]
pub struct TrialFlags {
    /// The maximum share of requests that a release may fail
    #[arg(long, value_name = "SHARE", default_value = "1%", value_parser = fraction)]
    pub max_failure_rate: Fraction,

    /// A slower answer counts as a failure
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "prometheus")]
    pub max_latency: Option<Duration>,

    /// Roll back a canary whose answers are slower than stable's by more than this, for example 20%. Without it, a
    /// verdict says so if the canary is slower, and that decides nothing
    #[arg(long, value_name = "SHARE", value_parser = tolerance)]
    pub slower_by: Option<Tolerance>,
    /// Leave out the answers of pods that started less than this before. A canary that fails all of them is still rolled
    /// back
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub warm_up: Option<Duration>,

    /// Roll back only a canary that also fails in more episodes of up to this time than stable's pods, for example 2s. For
    /// pods that all fail for a moment now and then, or differ from each other. It takes single requests with their pods, or
    /// with --prometheus the counters of each pod
    #[arg(long, value_name = "TIME", value_parser = episode)]
    pub episodes: Option<Duration>,

    /// How many times as often as stable the canary may fail, if stable itself fails more than --max-failure-rate
    #[arg(long, value_name = "NUMBER", default_value = "2", value_parser = ratio)]
    pub max_ratio: Ratio,

    /// The maximum probability of a wrong verdict
    #[arg(long, value_name = "SHARE", default_value = "0.05", value_parser = fraction)]
    pub alpha: Fraction,

    /// Promote only with this many answers of the canary to each kind of request that stable gets (--by, or several --path)
    #[arg(long, value_name = "NUMBER", default_value = "0", requires = DIVIDING, hide_default_value = true)]
    #[arg(value_parser = |text: &str| count(text, 0..=u64::MAX))]
    pub min_answers: u64,

    /// Requests a second that the Service really gets, for the price of the canary. The default is --rate, or the
    /// traffic that Prometheus has counted
    #[arg(long, value_name = "NUMBER", value_parser = traffic)]
    pub traffic: Option<Traffic>,

    /// The canary's share of the requests if weights decide it, and not the number of pods. It is only a mark beside
    /// the observed share; the judge does not use it
    #[arg(long, value_name = "SHARE", value_parser = fraction)]
    pub share: Option<Fraction>,

    /// The objective: the share of requests that the Service promises to answer well
    #[arg(long, value_name = "SHARE", default_value = "99.9%", value_parser = fraction)]
    pub slo: Fraction,

    /// How many times as fast as allowed a canary on trial may burn the error budget of the whole Service. The verdict's
    /// `max_share` follows from it. The default is --max-failure-rate / (1 - --slo)
    #[arg(long, value_name = "NUMBER", value_parser = burn)]
    pub max_burn: Option<Burn>,

    /// Keep `max_share` this long before it rises again, for faults that take time, such as leaks
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub soak: Option<Duration>,
}

impl TrialFlags {
    /// A trial of requests that canary sends at this rate, in requests a second, or without it, of the requests that the
    /// service's own counters count. Without `--traffic`, either also gives the Service's traffic.
    ///
    /// # Errors
    /// If the rate is not a valid traffic.
    pub fn of(&self, rate: Option<f64>, now: Instant) -> io::Result<Trial> {
        rate.map_or_else(|| Ok(self.of_counters(now)), |rate| self.of_sample(rate, now))
    }

    fn of_sample(&self, rate: f64, now: Instant) -> io::Result<Trial> {
        let traffic = self.traffic.map_or_else(|| Traffic::new(rate), Ok).map_err(io::Error::other)?;
        Ok(self.trial(Some(self.budget(traffic)), Coverage::Sample, now))
    }

    /// A trial of all requests that the service has got.
    pub fn of_all(&self, now: Instant) -> Trial {
        let budget = self.traffic.map(|traffic| self.budget(traffic));
        self.trial(budget, Coverage::All, now)
    }

    fn trial(&self, budget: Option<Budget>, coverage: Coverage, now: Instant) -> Trial {
        Trial::new(self.settings(), budget, coverage, now).with_given_share(self.share).with_soak(self.soak)
    }

    fn of_counters(&self, now: Instant) -> Trial {
        let budget = self.traffic.map(|traffic| self.budget(traffic));
        let coverage = if budget.is_some() { Coverage::All } else { Coverage::Counted(self.slo) };
        self.trial(budget, coverage, now)
    }

    /// The flag because of which it must be known when each request was sent, if there is one.
    pub(crate) fn needs_sent(&self) -> Option<&'static str> {
        if self.warm_up.is_some() { Some("--warm-up") } else { self.episodes.map(|_| "--episodes") }
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            alpha: self.alpha,
            max_failure_rate: self.max_failure_rate,
            max_ratio: self.max_ratio,
            min_answers: self.min_answers,
            max_latency: self.max_latency,
            slower_by: self.slower_by,
            warm_up: self.warm_up,
            episodes: self.episodes,
            slo: self.slo,
            max_burn: self.max_burn,
        }
    }

    fn budget(&self, traffic: Traffic) -> Budget {
        Budget { traffic, slo: self.slo }
    }
}

/// Parses the length of the longest episodes.
fn episode(text: &str) -> Result<Duration, String> {
    let longest = duration(text)?;
    if longest < SHORTEST_EPISODE { Err("it must be at least 100ms".to_owned()) } else { Ok(longest) }
}

/// With shorter ones, each request would be an episode.
const SHORTEST_EPISODE: Duration = Duration::from_millis(100);

/// Parses a share. If a number has no `%`, and would be a share with it, the message says how to write it.
fn fraction(text: &str) -> Result<Fraction, String> {
    text.parse().map_err(|error: InvalidNumber| match error {
        InvalidNumber::NotAFraction(number) if (1.0..100.0).contains(&number) && !text.contains('%') => {
            // rounded, because 99.9 / 100.0 is not 0.999
            format!("{error}: write {number}% or {}", (number * 1e10).round() / 1e12)
        }
        error => with_wanted(&error, "a share strictly between 0 and 1, such as 1% or 0.01"),
    })
}

fn ratio(text: &str) -> Result<Ratio, String> {
    text.parse().map_err(|error| with_wanted(&error, "a number of at least 1"))
}

fn traffic(text: &str) -> Result<Traffic, String> {
    text.parse().map_err(|error| with_wanted(&error, "a number of more than 0"))
}

fn burn(text: &str) -> Result<Burn, String> {
    text.parse().map_err(|error| with_wanted(&error, "a number of more than 0"))
}

/// The error in words. Only one of a text that is no number does not say what is wanted.
fn with_wanted(error: &InvalidNumber, wanted: &str) -> String {
    match error {
        InvalidNumber::NotANumber(_) => format!("{error}: want {wanted}"),
        _ => error.to_string(),
    }
}

/// Parses a tolerance. If a number has no `%`, and would be a tolerance with it, the message says how to write it.
fn tolerance(text: &str) -> Result<Tolerance, String> {
    text.parse().map_err(|error: InvalidNumber| match error {
        InvalidNumber::NotATolerance(number) if (10.0..=1000.0).contains(&number) && !text.contains('%') => {
            format!("{error}: write {number}% or {}", number / 100.0)
        }
        error => with_wanted(&error, "a share from 0 to 10, such as 20% or 0.2"),
    })
}
