//! Whether there is an incident of the whole service at the moment: stable fails much more than the limit.
//!
//! Only stable's answers decide that. Given the failure rates of both releases at each moment, the outcomes of the
//! canary's answers do not depend on those of stable's. So a canary's answer that is left out because of stable's is left
//! out whatever its own outcome is, and the rest is still a fair sample.

use crate::{Counts, by_ratio::INCIDENT, real, settings::Settings};

/// A cumulative sum (E. S. Page, "Continuous inspection schemes", Biometrika 41, 1954) of the logarithms of likelihood
/// ratios: stable fails with [`INCIDENT`] times the odds of the limit, against the limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incident {
    /// What a failure of stable adds, and what a success takes away.
    failure: f64,
    success: f64,
    /// At least 0, and at most [`MOST`] failures.
    sum: f64,
}

/// There is an incident from this many failures of stable on, if there are few successes between them. Two failures in
/// a row are enough, one is not.
const BEGINS: f64 = 1.5;
/// The sum has at most this many failures, so that an incident ends soon: with a limit of 1 %, after 54 successes of stable
/// in a row.
const MOST: f64 = 3.0;

impl Incident {
    pub(crate) fn new(settings: Settings) -> Self {
        let limit = settings.max_failure_rate.get();
        let odds = INCIDENT * limit / (1.0 - limit);
        let rate = odds / (1.0 + odds);
        Self { failure: (rate / limit).ln(), success: -((1.0 - rate) / (1.0 - limit)).ln(), sum: 0.0 }
    }

    /// Adds stable's next answers. Whether there is an incident with them.
    pub(crate) fn observe(&mut self, stable: Counts) -> bool {
        let more = real(stable.failures) * self.failure - real(stable.successes()) * self.success;
        self.sum = (self.sum + more).clamp(0.0, MOST * self.failure);
        self.is_on()
    }

    pub(crate) fn is_on(self) -> bool {
        self.sum >= BEGINS * self.failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::counts;

    #[test]
    fn an_incident_begins_with_two_failures_in_a_row_and_ends_after_54_successes() {
        let mut incident = Incident::new(Settings::default());
        assert!(!incident.observe(counts(1, 1)), "one failure may be chance");
        assert!(incident.observe(counts(1, 1)));
        (0..1000).for_each(|_| assert!(incident.observe(counts(6, 6))));
        assert!(incident.observe(counts(0, 53)));
        assert!(!incident.observe(counts(0, 1)));
    }

    #[test]
    fn a_stable_release_at_the_limit_is_no_incident_and_one_at_five_times_the_limit_is() {
        let mut incident = Incident::new(Settings::default());
        (0..1000).for_each(|_| assert!(!incident.observe(counts(1, 100))));
        (0..1000).for_each(|_| assert!(incident.observe(counts(5, 100))));
    }
}
