//! The metrics of `/metrics`, in the Prometheus text format.
//!
//! Names of trials are not labels, because they come from clients and must not add series. The metrics of the
//! judge are those of the current trial.

use std::time::{Instant, SystemTime};

use prometheus::{
    Error, Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::{Serve, seconds_of};
use crate::{
    source::{Attribution, Response, Seen},
    view::word,
};
use canary_judge::{Batch, Counts, Release, Verdict};

const DECISIONS: [&str; 4] = ["promote", "roll_back", "not_yet", "hold"];
const RELEASES: [&str; 5] = ["stable", "canary", "other", "unnamed", "no_answer"];
const OUTCOMES: [&str; 3] = ["success", "slow", "failure"];

/// The metrics of one server.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    unsent: IntCounter,
    decision: IntGaugeVec,
    ln_e_value: Gauge,
    ln_threshold: Gauge,
    max_share: Gauge,
    lower: GaugeVec,
    upper: GaugeVec,
    trial_began: Gauge,
    counting_since: Gauge,
    process_started: Gauge,
    trials: IntGauge,
    replaced: IntCounter,
    refused: IntCounter,
    viewers: IntGauge,
    state_failures: IntCounter,
    state_written: Gauge,
}

impl Metrics {
    /// All metrics at 0.
    ///
    /// # Errors
    /// If the metrics library refuses one of them.
    pub(super) fn new() -> Result<Self, Error> {
        let new = Self {
            registry: Registry::new(),
            requests: IntCounterVec::new(
                Opts::new("canary_requests_total", "Requests that were seen, by release and outcome."),
                &["release", "outcome"],
            )?,
            unsent: IntCounter::new("canary_unsent_total", "Requests that this machine could not send.")?,
            decision: IntGaugeVec::new(
                Opts::new(
                    "canary_decision",
                    "1 for what is decided on the current trial, 0 for the others. A promotion is 0 once its canary is silent.",
                ),
                &["decision"],
            )?,
            ln_e_value: Gauge::new(
                "canary_ln_e_value",
                "Evidence that the current canary is worse than stable: the natural logarithm of the e-value.",
            )?,
            ln_threshold: Gauge::new("canary_ln_threshold", "The evidence at which it is rolled back.")?,
            max_share: Gauge::new(
                "canary_max_share",
                "The greatest share of the traffic for the current canary at the moment, from 0 to 1.",
            )?,
            lower: GaugeVec::new(
                Opts::new("canary_failure_rate_lower", "The failure rate is at least this, current trial."),
                &["release"],
            )?,
            upper: GaugeVec::new(
                Opts::new("canary_failure_rate_upper", "The failure rate is at most this, current trial."),
                &["release"],
            )?,
            trial_began: Gauge::new(
                "canary_trial_began_timestamp_seconds",
                "When the current trial began, in seconds since 1970.",
            )?,
            counting_since: Gauge::new(
                "canary_counting_since_timestamp_seconds",
                "Since when requests are counted, in seconds since 1970.",
            )?,
            process_started: Gauge::new(
                "process_start_time_seconds",
                "When the process started, in seconds since 1970.",
            )?,
            trials: IntGauge::new("canary_trials", "Trials that are kept.")?,
            replaced: IntCounter::new(
                "canary_trials_replaced_total",
                "Trials that were forgotten, because there are too many.",
            )?,
            refused: IntCounter::new(
                "canary_trials_refused_total",
                "Names of trials that were refused, because there are too many.",
            )?,
            viewers: IntGauge::new("canary_viewers", "Viewers of the page.")?,
            state_failures: IntCounter::new(
                "canary_state_write_failures_total",
                "How often the file of --state could not be written.",
            )?,
            state_written: Gauge::new(
                "canary_state_written_timestamp_seconds",
                "When the file of --state was written last, in seconds since 1970; 0 if it was not.",
            )?,
        };
        new.register()?;
        // series exist from the start, so that a scrape sees their value 0: otherwise the first increase would
        // be lost
        for release in RELEASES {
            for outcome in OUTCOMES {
                new.requests.with_label_values(&[release, outcome]);
            }
        }
        Ok(new)
    }

    fn register(&self) -> Result<(), Error> {
        let build = Opts::new("canary_build_info", "What is running: always 1.")
            .const_label("version", env!("CARGO_PKG_VERSION"));
        let build = IntGauge::with_opts(build)?;
        build.set(1);
        self.registry.register(Box::new(build))?;
        self.registry.register(Box::new(self.requests.clone()))?;
        self.registry.register(Box::new(self.unsent.clone()))?;
        self.registry.register(Box::new(self.decision.clone()))?;
        for gauge in [
            &self.ln_e_value,
            &self.ln_threshold,
            &self.max_share,
            &self.trial_began,
            &self.counting_since,
            &self.process_started,
            &self.state_written,
        ] {
            self.registry.register(Box::new(gauge.clone()))?;
        }
        for bounds in [&self.lower, &self.upper] {
            self.registry.register(Box::new(bounds.clone()))?;
        }
        for count in [&self.replaced, &self.refused, &self.state_failures] {
            self.registry.register(Box::new(count.clone()))?;
        }
        for count in [&self.trials, &self.viewers] {
            self.registry.register(Box::new(count.clone()))?;
        }
        Ok(())
    }

    /// Notes that the file of `--state` was written now, or could not be.
    pub(super) fn state_was_written(&self, well: bool) {
        if well {
            self.state_written.set(seconds_of(SystemTime::now()));
        } else {
            self.state_failures.inc();
        }
    }

    /// Counts an outcome.
    pub(super) fn observe(&self, seen: &Seen) {
        match seen {
            Seen::Request(observation) => match (observation.attributed(), &observation.response) {
                (Some((attribution, outcome)), _) => {
                    let mut counts = Counts::default();
                    counts.record(outcome);
                    self.count(label(attribution), counts);
                }
                (None, Response::Unsent(_)) => self.unsent.inc(),
                (None, _) => {}
            },
            Seen::Interval(interval) => {
                let Batch { stable, canary, .. } = interval.batch();
                self.count("stable", stable);
                self.count("canary", canary);
            }
            Seen::Health(_) | Seen::Trouble(_) => {}
        }
    }

    fn count(&self, release: &str, counts: Counts) {
        let by_outcome = [counts.successes(), counts.slow, counts.failures - counts.slow];
        for (outcome, requests) in OUTCOMES.into_iter().zip(by_outcome) {
            self.requests.with_label_values(&[release, outcome]).inc_by(requests);
        }
    }

    /// The metrics as they are now.
    ///
    /// # Errors
    /// If the metrics library cannot write them.
    pub(super) fn text(&self, serve: &Serve) -> Result<String, Error> {
        let (verdict, trials, full, since) = {
            let (trials, now) = (serve.trials(), Instant::now());
            let current = trials.current(now).one;
            self.trial_began.set(serve.started.seconds_of(current.trial().tally().began()));
            (current.trial().verdict(now), trials.count(), trials.full(), serve.counting_since(&trials))
        };
        let started = serve.started.seconds_of(serve.started.instant);
        self.counting_since.set(seconds_of(since));
        self.process_started.set(started);
        self.update(&verdict);
        for (counter, now) in [(&self.replaced, full.replaced), (&self.refused, full.refused)] {
            counter.inc_by(now.saturating_sub(counter.get()));
        }
        self.trials.set(i64::try_from(trials).unwrap_or(i64::MAX));
        self.viewers.set(i64::try_from(serve.viewers.count()).unwrap_or(i64::MAX));
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    fn update(&self, verdict: &Verdict) {
        for decision in DECISIONS {
            let is_it = decision == word(&verdict.decision);
            self.decision.with_label_values(&[decision]).set(is_it.into());
        }
        self.ln_e_value.set(verdict.ln_e_value);
        self.max_share.set(verdict.max_share);
        self.ln_threshold.set(-verdict.settings.alpha.get().ln());
        for (release, estimate) in [(Release::Stable, verdict.stable), (Release::Canary, verdict.canary)] {
            let release = release.to_string();
            self.lower.with_label_values(&[&release]).set(estimate.bounds.lower);
            self.upper.with_label_values(&[&release]).set(estimate.bounds.upper);
        }
    }
}

/// Other names of releases come from the service, and must not add series.
fn label(attribution: &Attribution) -> &'static str {
    match attribution {
        Attribution::Release(Release::Stable) => "stable",
        Attribution::Release(Release::Canary) => "canary",
        Attribution::Other(_) => "other",
        Attribution::Unnamed => "unnamed",
        Attribution::NoAnswer => "no_answer",
    }
}
