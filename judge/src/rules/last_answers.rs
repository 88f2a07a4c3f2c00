use super::Rule;
use crate::Release;

/// Roll back when more than 5 % of the canary's last 50 answers are failures: the failure rate over a sliding window of
/// answers, as circuit breakers have it (resilience4j, "Circuit breaker", the settings `failureRateThreshold` and
/// `slidingWindowSize`).
#[derive(Clone, Copy, Debug, Default)]
pub struct LastAnswers {
    /// A bit for each of the last answers, 1 for a failure, the newest last.
    failures: u64,
    answers: u32,
}

const WINDOW: u32 = 50;
/// More than 5 % of them.
const TOO_MANY: u32 = 3;

impl Rule for LastAnswers {
    fn observe(&mut self, release: Release, failed: bool, _seconds: f64) -> bool {
        if release == Release::Canary {
            self.failures = ((self.failures << 1) | u64::from(failed)) & ((1 << WINDOW) - 1);
            self.answers = (self.answers + 1).min(WINDOW);
        }
        self.answers == WINDOW && self.failures.count_ones() >= TOO_MANY
    }
}
