use super::Rule;
use crate::{Counts, Outcome, Release};

/// Roll back after four minutes in which less than 99 % of the canary's answers were successes. The rate and the minute are
/// those of Flagger's tutorials (`request-success-rate` with `thresholdRange: {min: 99}` and `interval: 1m`); four strikes
/// are those of Argo Rollouts' documentation (`failureLimit: 3`: the analysis fails when there are more).
#[derive(Clone, Copy, Debug, Default)]
pub struct SuccessRate {
    /// Of this minute.
    minute: Counts,
    /// The end of this minute, in seconds since the beginning; 0 before the first answer.
    end: f64,
    strikes: u32,
}

const MINUTE: f64 = 60.0;
const STRIKES: u32 = 4;

impl Rule for SuccessRate {
    fn observe(&mut self, release: Release, failed: bool, seconds: f64) -> bool {
        if seconds >= self.end {
            // less than 99 % of successes is more than 1 % of failures
            self.strikes += u32::from(self.minute.failures * 100 > self.minute.requests);
            self.minute = Counts::default();
            self.end = (seconds / MINUTE).floor() * MINUTE + MINUTE;
        }
        if release == Release::Canary {
            self.minute.record(if failed { Outcome::Failure } else { Outcome::Success });
        }
        self.strikes >= STRIKES
    }
}
