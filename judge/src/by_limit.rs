//! The promotion by the limit: the canary is shown to fail at most `max_failure_rate`.
//!
//! A promotion is wrong if the canary fails more than the limit, and also more than `max_ratio` times as often as stable.
//! This way and the promotion [by the ratio](crate::by_ratio) share α.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::{
    Batch, Counts, Release, alpha, incident::Incident, odds::ln_sum, real, scrapes::Window,
    settings::Settings, verdict::Basis,
};

/// The upper bound of a failure rate p, valid however often you look.
///
/// For every limit ℓ, the likelihood ratio of a lower rate r·ℓ against ℓ is a test supermartingale if p ≥ ℓ. A
/// weighted mean over several r < 1 is one, too:
///
/// ```text
/// E(ℓ) = Σ w · r^failures · ((1 − r ℓ)/(1 − ℓ))^successes
/// ```
///
/// By Ville's inequality, if p ≥ ℓ, the probability that E(ℓ) ever reaches 1/α is at most α. E rises with ℓ, so it
/// has reached 1/α for all ℓ above one value. This value is the bound.
///
/// The weights decide for which rates the bound falls fast. At α = 0.045, a canary that never fails is below 1
/// % after 345 answers. No method needs fewer than 309 answers, because 0.99ⁿ falls below 0.045 there.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct UpperBound {
    ln_threshold: f64,
}

/// r, and its weight.
const LOWER_RATES: [(f64, f64); 5] = [(0.0, 0.4), (0.1, 0.3), (0.25, 0.15), (0.5, 0.1), (0.75, 0.05)];

impl UpperBound {
    pub(super) fn new(alpha: f64) -> Self {
        Self { ln_threshold: -alpha.ln() }
    }

    /// The logarithm of E.
    fn ln_e_value(counts: Counts, limit: f64) -> f64 {
        let ln_success = |rate: f64| (-rate).ln_1p();
        ln_sum(LOWER_RATES.iter().map(|(r, weight)| {
            let failures = if counts.failures == 0 { 0.0 } else { real(counts.failures) * r.ln() };
            let successes = real(counts.successes()) * (ln_success(r * limit) - ln_success(limit));
            weight.ln() + failures + successes
        }))
    }

    /// Whether the bound is at or below `limit`. With several counts, it is that of the mean of their E.
    pub(super) fn is_within<const N: usize>(self, counts: [Counts; N], limit: f64) -> bool {
        let each = counts.map(|counts| Self::ln_e_value(counts, limit));
        ln_sum(each.into_iter()) - (N as f64).ln() >= self.ln_threshold
    }

    /// The bound; 1 if there is too little evidence for a lower one.
    pub(super) fn bound<const N: usize>(self, counts: [Counts; N]) -> f64 {
        let (mut below, mut bound) = (0.0, 1.0);
        for _ in 0..f64::MANTISSA_DIGITS {
            let middle = f64::midpoint(below, bound);
            if middle < 1.0 && self.is_within(counts, middle) {
                bound = middle;
            } else {
                below = middle;
            }
        }
        bound
    }

    /// The number of further successes until the bound is at or below `limit`; `None` if it is more than `most`.
    pub(super) fn successes_until_within<const N: usize>(
        self,
        counts: [Counts; N],
        limit: f64,
        most: u64,
    ) -> Option<u64> {
        let after = |more| {
            self.is_within(counts.map(|seen| Counts { requests: seen.requests + more, ..seen }), limit)
        };
        if !after(most) {
            return None;
        }
        let (mut fewest, mut enough) = (0, most);
        while fewest < enough {
            let middle = u64::midpoint(fewest, enough);
            if after(middle) {
                enough = middle;
            } else {
                fewest = middle + 1;
            }
        }
        Some(enough)
    }
}

/// The evidence for the promotion by the limit: the mean of two e-processes. One has all answers of the canary. The other
/// has those outside of [incidents](Incident), so that an incident that is over does not count for ever. Without an
/// incident, both are the same, and so is their mean.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct ByLimit {
    limit: f64,
    upper_bound: UpperBound,
    incident: Incident,
    /// All answers of the canary, and all failures that name no release, but those that wait.
    all: Counts,
    /// The part of them that is outside of incidents, and stable's answers there.
    outside: Batch,
    /// Windows of the canary, until stable is scraped after them.
    waiting: VecDeque<Span>,
    /// Windows of stable with an incident, by their beginning and end.
    incidents: VecDeque<(f64, f64)>,
}

/// A window of the canary.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct Span {
    since: f64,
    until: f64,
    counts: Counts,
}

/// The maximum number of windows of a kind. If more of the canary wait, none of them waits longer for stable. If more of
/// stable have an incident, nothing is left out because of them. Neither looks at an outcome of the canary.
const MOST_WINDOWS: usize = 1 << 12;

impl ByLimit {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            limit: settings.max_failure_rate.get(),
            upper_bound: UpperBound::new(alpha::LIMIT * settings.alpha.get()),
            incident: Incident::new(settings),
            all: Counts::default(),
            outside: Batch::default(),
            waiting: VecDeque::new(),
            incidents: VecDeque::new(),
        }
    }

    /// Adds answers of the same time.
    pub(super) fn observe(&mut self, batch: Batch) {
        self.all += batch.canary_at_worst();
        if !self.incident.observe(batch.stable) {
            self.outside += batch;
        }
    }

    /// Adds a window between two scrapes.
    pub(super) fn observe_window(&mut self, window: &Window) {
        let Window { release, since, until, counts, .. } = *window;
        match release {
            Release::Stable if self.incident.observe(counts) => self.incidents.push_back((since, until)),
            Release::Stable => self.outside.stable += counts,
            Release::Canary => self.waiting.push_back(Span { since, until, counts }),
        }
    }

    /// All pods were scraped until this time: whether there was an incident before it is known, and will not change.
    pub(super) fn settle(&mut self, scraped: f64) {
        let is_full = self.waiting.len() > MOST_WINDOWS;
        let Self { waiting, incidents, all, outside, .. } = self;
        waiting.retain(|window| {
            if window.until > scraped && !is_full {
                return true;
            }
            let touches = |(since, until): &(f64, f64)| *since < window.until && *until > window.since;
            *all += window.counts;
            if !incidents.iter().any(touches) {
                outside.canary += window.counts;
            }
            false
        });
        let needed = waiting.iter().map(|window| window.since).fold(scraped, f64::min);
        incidents.retain(|(_, until)| *until > needed);
        if incidents.len() > MOST_WINDOWS {
            incidents.clear();
        }
    }

    /// The evidence of both e-processes.
    fn evidence(&self) -> [Counts; 2] {
        [self.all, self.outside.canary_at_worst()]
    }

    /// The same, as if all windows that wait were outside of incidents. A promotion must not rest on less than is known.
    fn with_waiting(&self) -> [Counts; 2] {
        let waiting = self.waiting.iter().map(|window| window.counts).sum();
        self.evidence().map(|counts| counts + waiting)
    }

    /// Whether there is an incident at the moment.
    pub(super) fn is_incident(&self) -> bool {
        self.incident.is_on()
    }

    /// The answers outside of incidents.
    pub(super) fn outside(&self) -> Batch {
        self.outside
    }

    /// The answers of the canary on which the evidence rests: all, or those outside of incidents if these are more
    /// evidence.
    pub(super) fn basis(&self) -> Basis {
        let [all, outside] = self.with_waiting();
        let is_outside =
            UpperBound::ln_e_value(outside, self.limit) > UpperBound::ln_e_value(all, self.limit);
        let counts = if is_outside { outside } else { all };
        Basis { counts, during_incidents: all - counts }
    }

    /// The upper bound of the canary's failure rate.
    pub(super) fn bound(&self) -> f64 {
        [self.evidence(), self.with_waiting()]
            .map(|seen| self.upper_bound.bound(seen))
            .into_iter()
            .fold(0.0, f64::max)
    }

    /// Whether the canary's failure rate is shown to be within the limit.
    pub(super) fn is_shown(&self) -> bool {
        [self.evidence(), self.with_waiting()]
            .iter()
            .all(|seen| self.upper_bound.is_within(*seen, self.limit))
    }

    /// The number of further successes of the canary outside of incidents until [`ByLimit::is_shown`] is true, once stable
    /// was scraped in the same time; `None` if it is more than [`FORESIGHT`].
    pub(super) fn successes_until_shown(&self) -> Option<u64> {
        self.upper_bound.successes_until_within(self.with_waiting(), self.limit, FORESIGHT)
    }

    /// Whether only a scrape of stable is missing.
    pub(super) fn waits_for_stable(&self) -> bool {
        !self.waiting.is_empty()
            && !self.is_shown()
            && self.upper_bound.is_within(self.with_waiting(), self.limit)
    }
}

/// If a promotion takes more further answers than this, the number is not computed.
pub(super) const FORESIGHT: u64 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, counts};

    const ALPHA: f64 = 0.045;

    /// The figures in the documentation of [`UpperBound`].
    #[test]
    fn a_canary_that_never_fails_is_below_one_per_cent_after_345_answers() {
        let bound = UpperBound::new(ALPHA);
        let needed = |seen| bound.successes_until_within([seen], 0.01, 100_000);
        assert_eq!(needed(counts(0, 0)), Some(345));
        assert_eq!(needed(counts(0, 344)), Some(1));
        assert_eq!(needed(counts(0, 345)), Some(0));
        assert_eq!(needed(counts(1, 1)), Some(681));
        assert_eq!(needed(counts(2000, 2000)), None);
        assert!(0.99_f64.powi(308) > ALPHA && 0.99_f64.powi(309) < ALPHA);
    }

    #[test]
    fn the_weights_add_up_to_one() {
        assert_close(LOWER_RATES.iter().map(|(_, weight)| weight).sum(), 1.0);
    }

    /// Each answer multiplies the e-process by a factor with expectation 1 at the limit. So the expectation is
    /// 1 after any number of answers.
    #[test]
    fn the_mean_likelihood_ratio_has_expectation_1_at_the_limit_and_less_above_it() {
        let e_value = |seen: Counts, limit: f64| -> f64 {
            let ratio = |(r, weight): &(f64, f64)| {
                let failures = i32::try_from(seen.failures).expect("few");
                let successes = i32::try_from(seen.successes()).expect("few");
                weight * r.powi(failures) * ((1.0 - r * limit) / (1.0 - limit)).powi(successes)
            };
            LOWER_RATES.iter().map(ratio).sum()
        };
        for limit in [0.001, 0.01, 0.3_f64] {
            for (truth, most) in
                [(limit, 1.0_f64 + 1e-9), (limit * 1.5, 1.0 - 1e-4), (limit * 3.0, 1.0 - 1e-4)]
            {
                let n = 12;
                let mut coefficient = 1.0_f64;
                let mut expectation = 0.0;
                for k in 0..=n {
                    let (failed, succeeded) =
                        (i32::try_from(k).expect("few"), i32::try_from(n - k).expect("few"));
                    let probability = coefficient * truth.powi(failed) * (1.0 - truth).powi(succeeded);
                    expectation += probability * e_value(counts(k, n), limit);
                    coefficient *= real(n - k) / real(k + 1);
                }
                assert!(expectation <= most, "{expectation} at {truth}");
                let bound = UpperBound::new(1.0 / e_value(counts(0, n), limit) * 1.000_001);
                assert!(bound.is_within([counts(0, n)], limit), "it is the same e-value");
            }
        }
    }

    #[test]
    fn is_within_is_true_above_the_bound_and_false_below_it() {
        for alpha in [0.3, 0.045, 0.001] {
            let upper = UpperBound::new(alpha);
            for requests in [0, 1, 10, 345, 5000, 1_000_000] {
                for failures in
                    [0, 1, requests / 100, requests / 2, requests].into_iter().filter(|it| *it <= requests)
                {
                    let seen = counts(failures, requests);
                    let bound = upper.bound([seen]);
                    assert!((seen.rate().unwrap_or(0.0)..=1.0).contains(&bound), "{bound} after {seen:?}");
                    assert!(bound >= 1.0 || upper.is_within([seen], (bound * 1.000_001).min(1.0)));
                    assert!(!upper.is_within([seen], bound * 0.999_999));
                }
            }
        }
    }
}
