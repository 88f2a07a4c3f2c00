//! The promotion by the ratio: stable itself fails more than the limit, and the canary is shown to fail at most
//! `max_ratio` times as often.

use serde::{Deserialize, Serialize};

use crate::{
    Counts, alpha,
    divided::DividedTest,
    odds::{OddsTest, Table},
    real,
    settings::Settings,
};

/// The evidence for the promotion by the ratio. The null hypothesis is that the odds ratio is at least `max_ratio`. If a
/// canary fails more than `max_ratio` times as often as stable, its odds ratio is above `max_ratio`, too.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct ByRatio {
    limit: f64,
    test: DividedTest,
    ln_threshold: f64,
    recent: RecentFailures,
    /// Stable's answers in the batches that count.
    stable: Counts,
}

/// The alternatives for the test of the ratio, as parts of `max_ratio`.
const PARTS_OF_RATIO: [f64; 6] = [1.0 / 16.0, 1.0 / 8.0, 1.0 / 4.0, 3.0 / 8.0, 1.0 / 2.0, 0.65];

impl ByRatio {
    /// With this part of the error probability that belongs to the promotion by the ratio.
    pub(super) fn new(settings: Settings, part: f64) -> Self {
        let (alpha, limit) = (settings.alpha.get(), settings.max_failure_rate.get());
        let max_ratio = settings.max_ratio.get();
        Self {
            limit,
            test: DividedTest::new(OddsTest::new(max_ratio, PARTS_OF_RATIO.map(|part| part * max_ratio))),
            ln_threshold: -(alpha::RATIO * alpha * part).ln(),
            recent: RecentFailures::new(limit),
            stable: Counts::default(),
        }
    }

    /// Adds all requests of both sides in some time, in parts of about the same time. Whether there was an incident in it:
    /// batches in an incident do not count. This selection uses only totals. The test is conditional on them, so it stays
    /// valid.
    pub(super) fn see_totals(&mut self, totals: &[Counts]) -> bool {
        let mut is_incident = false;
        for total in totals {
            self.recent.observe(*total);
            is_incident |= self.recent.is_incident();
        }
        is_incident
    }

    /// Whether there is an incident with these requests, too.
    pub(super) fn is_incident_with(&self, total: Counts) -> bool {
        let mut recent = self.recent;
        recent.observe(total);
        recent.is_incident()
    }

    /// Adds the next batch of a stratum outside of incidents, in which the canary's share moved (see
    /// [`OddsTest::observe_with_share`]).
    pub(super) fn observe(&mut self, stratum: usize, known: usize, table: Table, moved: f64) {
        self.test.observe(stratum, known, table, moved);
        self.stable += table.reference;
    }

    /// Whether stable fails more than the limit, and the canary is shown to fail at most `max_ratio` times as
    /// often, over all strata together.
    pub(super) fn is_shown(&self) -> bool {
        self.stable.rate().is_some_and(|rate| rate > self.limit)
            && self.test.ln_common_e_value(|_| true) >= self.ln_threshold
    }
}

/// The recent failure rate of all requests together: a weighted average. The weight of a request falls by a
/// factor of e with every 1/limit later requests.
///
/// An incident that hits both releases makes them alike while it lasts. It must not promote a canary that is worse
/// without an incident, so the ratio is not tested during one.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct RecentFailures {
    limit: f64,
    rate: f64,
}

/// There is an incident while the odds of the recent failure rate are more than this many times the odds of the
/// limit. (It uses odds because no rate can be six times a limit of 20 %.) At a failure rate of twice a limit
/// of 1 %, the average has a mean of 2 % and a standard deviation of 1 %.
pub(crate) const INCIDENT: f64 = 6.0;

impl RecentFailures {
    fn new(limit: f64) -> Self {
        Self { limit, rate: 0.0 }
    }

    fn observe(&mut self, counts: Counts) {
        let Some(rate) = counts.rate() else { return };
        let kept = (-real(counts.requests) * self.limit).exp();
        self.rate = self.rate * kept + rate * (1.0 - kept);
    }

    fn is_incident(self) -> bool {
        let odds = |rate: f64| rate / (1.0 - rate);
        odds(self.rate) > INCIDENT * odds(self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, counts};

    #[test]
    fn old_failures_count_less_in_the_recent_failure_rate() {
        let mut recent = RecentFailures::new(0.01);
        recent.observe(counts(10, 10));
        assert!(recent.is_incident(), "ten failures of ten");
        recent.observe(counts(0, 100));
        assert!(!recent.is_incident(), "ten have become fewer than four");
        (0..1000).for_each(|_| recent.observe(counts(1, 25)));
        assert!(
            !recent.is_incident() && (recent.rate - 0.04).abs() < 0.006,
            "4 % is four times the limit: {recent:?}"
        );
        let mut counters = RecentFailures::new(0.01);
        counters.observe(counts(40_000, 1_000_000));
        assert_close(counters.rate, 0.04);
        let mut high = RecentFailures::new(0.3);
        high.observe(counts(80, 100));
        assert!(high.is_incident(), "even if no rate can be six times the limit");
    }
}
