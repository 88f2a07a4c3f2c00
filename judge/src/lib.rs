// Only for the documentation: where an image is built, there is no README.
#![cfg_attr(doc, doc = include_str!("../README.md"))]
//!
//! # Where outcomes come from
//!
//! A judge takes one of these:
//!
//! | what your program has | what it calls |
//! |---|---|
//! | requests, in the order of sending | [`Judge::observe`] |
//! | requests that end in another order | [`Judge::observe_numbered`], with the number of each in the order of sending |
//! | counts of both releases in the same short time | [`Judge::observe_batch`] |
//! | counts of one stratum, such as a path, in that time | [`Judge::observe_batch_of`] |
//! | counters of pods that are scraped at different moments | [`Judge::observe_scrapes`] |
//!
//! Counters that are scraped never show the same time for two pods. The judge takes that into account:
//!
//! ```
//! use std::sync::Arc;
//!
//! use canary_judge::{Counts, Decision, Judge, Release, Settings, Window};
//!
//! let mut judge = Judge::new(Settings::default());
//! let pods = [(Release::Stable, "stable-1", 0.0, 300), (Release::Canary, "canary-1", 6.5, 100)];
//!
//! // Every 15 seconds, each pod at a moment of its own. The first scrape of a pod has no increase yet.
//! for round in 0..20 {
//!     for (release, pod, moment, requests) in pods {
//!         let until = moment + 15.0 * f64::from(round);
//!         let since = if round == 0 { until } else { until - 15.0 };
//!         let requests = if round == 0 { 0 } else { requests };
//!         let (counts, pod) = (Counts { requests, failures: 0, slow: 0 }, Arc::from(pod));
//!         let (strata, latencies) = (Vec::new(), Vec::new());
//!         judge.observe_scrapes([Window {
//!             release, pod, since, until, counts, restarted: false, is_warm_up: false, strata, latencies,
//!         }]);
//!     }
//!     println!("{}", judge.verdict());
//! }
//! assert!(matches!(judge.verdict().decision, Decision::Promote { .. }));
//! ```
//!
//! # What each type is for
//!
//! - [`Judge`] takes outcomes. [`Judge::decided`] is cheap; [`Judge::verdict`] computes all the numbers.
//! - [`Settings`] are α, the limit and the ratio. [`Fraction`], [`Ratio`] and [`Burn`] are numbers in a valid range, and
//!   [`InvalidNumber`] says why a number is not.
//! - [`Release`], [`Outcome`], [`Request`]: the two sides, how a request ended, and both with what else is known of it: the
//!   pod that answered, its stratum and its latency.
//! - [`Counts`] are the requests and failures of one side. A [`Batch`] has those of both sides in the same time. A
//!   [`Window`] has those of one pod between two scrapes.
//! - [`Verdict`] is the result, for people (`Display`) and for programs (`Serialize`): its [`Decision`], the [`Reason`] of
//!   a promotion, the [`Evidence`] at which it was clear and the [`Basis`] of a promotion by the limit, an [`Estimate`] with
//!   its [`Interval`] for each side, and the [`FailingPods`], each a [`FailingPod`].
//! - [`Absence`] says that the canary does not answer at the moment. The judge has no clock, so your program finds that
//!   out and passes it to [`Verdict::during`]: a canary that is gone is not promoted.
//! - [`StratumEvidence`] is what a verdict says of one stratum, if requests are divided into strata.
//! - [`Episodes`] is what a verdict says of failures that come in episodes, in [`PodSpans`] of both releases, with
//!   [`Settings::episodes`].
//! - [`Price`] is what the canary has cost, as a share of a [`Budget`] with its [`Traffic`].
//! - [`ConfidenceSequence`] is the interval of one failure rate, for use without a judge.
//! - [`rules`] has rules of thumb, to compare a judge with what people use instead.
//! - [`count`] and [`percent`] write numbers as the sentences of a verdict do.
//! - [`Latency`] has the [`Percentiles`] of both releases, and where the canary is [`Slower`].
//!
//! The judge does not measure latency: your program passes it by [`Request::with_latency`], or as a [`Histogram`] of a
//! [`Window`]. It decides only with [`Settings::slower_by`], a [`Tolerance`]. If an answer is later than
//! [`Settings::max_latency`], your program passes [`Outcome::Slow`]; that setting is only part of the verdict.

// The modules, in reading order:
// - `release`: the two sides of a rollout, outcomes, and counts.
// - `order`: the order of sending. `batch`: which requests are compared with each other. `scrapes`: the same for counters
//   that are scraped at different moments.
// - `odds`: the test whether one side fails more often. `divided`: the same in each stratum, and in all of them together.
//   `strata`: what each stratum has seen. `comparison`: the tests on one sequence of batches.
// - `latency`: the same test for slower answers, at a grid of thresholds.
// - `decision`: the rules for promotion and roll-back. `by_limit` and `by_ratio`: the two ways to a promotion.
//   `incident`: what a promotion by the limit may leave out. `warm_up`: what is left out of pods that have just started.
//   `alpha`: how α is divided.
// - `pods`: which pods of a release fail more often than its other pods. `episodes`: failures that come in episodes of single
//   pods. `spread`: whether the releases differ by more than pods do.
// - `bounds`: confidence intervals for failure rates.
// - `verdict`: the result. `sentences`: a verdict and its price in words. `price`: the cost of a canary.
// - `share`: the greatest share of the traffic that a canary may get for now.
// - `outlook`: what the traffic can show, before there is any.
// - `settings`, and `numbers` in them.
// - `rules`: rules of thumb, to compare the judge with.

mod alpha;
mod batch;
mod bounds;
mod by_limit;
mod by_ratio;
mod chance;
mod comparison;
mod decision;
mod divided;
mod episodes;
mod incident;
mod latency;
mod numbers;
mod odds;
mod order;
mod outlook;
mod pods;
mod price;
mod release;
pub mod rules;
mod scrapes;
mod sentences;
mod settings;
mod share;
mod spread;
mod strata;
mod verdict;
mod warm_up;

pub use self::{
    bounds::{ConfidenceSequence, Interval},
    decision::Judge,
    latency::Histogram,
    numbers::{Burn, Fraction, InvalidNumber, Ratio, Tolerance, Traffic},
    order::Request,
    pods::FailingPod,
    price::{Budget, Price},
    release::{Batch, Counts, Outcome, Release},
    scrapes::Window,
    sentences::{count, percent},
    settings::Settings,
    verdict::{
        Absence, Basis, Decision, Episodes, Estimate, Evidence, FailingPods, Latency, Percentiles, PodSpans,
        Reason, Slower, StratumEvidence, Verdict,
    },
};

pub(crate) use self::release::real;

#[cfg(test)]
mod testing {
    use crate::Counts;

    pub(super) fn counts(failures: u64, requests: u64) -> Counts {
        Counts { requests, failures, slow: 0 }
    }

    #[track_caller]
    pub(super) fn assert_close(value: f64, expected: f64) {
        assert!((value - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{value} is not {expected}");
    }
}
