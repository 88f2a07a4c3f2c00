//! `--soak`: how long the canary keeps a share of the traffic before it may get more. This is no statistics: some faults take
//! time, such as leaks, caches and batch jobs.

use std::time::{Duration, Instant};

use canary_judge::Verdict;
use serde::{Deserialize, Serialize};

/// The greatest share that was allowed, and since when.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Soak {
    time: Duration,
    /// `None` until the canary answers.
    #[serde(with = "crate::moment")]
    since: Option<Instant>,
    share: f64,
    #[serde(with = "crate::moment")]
    looked: Option<Instant>,
}

/// The evidence is looked at about this often.
const LOOK: Duration = Duration::from_secs(1);

impl Soak {
    pub(super) fn new(time: Duration) -> Self {
        Self { time, since: None, share: 0.0, looked: None }
    }

    /// The same, with the time of another one.
    pub(super) fn with_time_of(self, like: Self) -> Self {
        Self { time: like.time, ..self }
    }

    /// For another canary.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.time);
    }

    /// Whether it is time to look at the evidence: the canary has answered at this time.
    pub(super) fn is_due(&mut self, at: Instant) -> bool {
        let is_due = self.looked.is_none_or(|looked| at.saturating_duration_since(looked) >= LOOK);
        if is_due {
            self.looked = Some(at);
        }
        is_due
    }

    /// Notes the share that the evidence allows at this time.
    pub(super) fn see(&mut self, allowed: f64, at: Instant) {
        let Some(since) = self.since else {
            (self.share, self.since) = (allowed, Some(at));
            return;
        };
        if allowed < self.share || allowed > self.share && at.saturating_duration_since(since) >= self.time {
            (self.share, self.since) = (allowed, Some(at));
        }
    }

    /// The verdict with no greater share than has been held for long enough.
    pub(super) fn limit(&self, verdict: Verdict) -> Verdict {
        if self.since.is_some() { verdict.with_share_held(self.share, self.time) } else { verdict }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_rises_only_after_it_was_held_and_falls_at_once() {
        let (began, mut soak) = (Instant::now(), Soak::new(Duration::from_secs(60)));
        let shares: Vec<_> =
            [(0, 0.01), (30, 0.2), (59, 0.3), (60, 0.3), (100, 0.5), (110, 0.1), (120, 0.5), (170, 0.5)]
                .into_iter()
                .map(|(second, allowed)| {
                    soak.see(allowed, began + Duration::from_secs(second));
                    soak.share
                })
                .collect();
        assert_eq!(shares, [0.01, 0.01, 0.01, 0.3, 0.3, 0.1, 0.1, 0.5]);
    }

    /// A canary that is well, with four requests each second.
    #[test]
    fn a_trial_holds_each_share_and_says_so() {
        use crate::{
            source::{Answer, Attribution, Coverage, Observation, Response},
            trial::Trial,
        };
        use canary_judge::{Decision, Outcome, Release, Settings};

        let began = Instant::now();
        let trial = Trial::new(Settings::default(), None, Coverage::All, began);
        let mut trial = trial.with_soak(Some(Duration::from_secs(600)));
        let mut shares = Vec::new();
        for number in 0..4000 {
            let release = if number % 4 == 3 { Release::Canary } else { Release::Stable };
            let (attribution, outcome) = (Attribution::Release(release), Outcome::Success);
            let answer = Answer { attribution, outcome, status: None, latency: None, pod: None, info: None };
            let sent = began + Duration::from_millis(250 * number);
            trial.observe(&Observation {
                number,
                sent,
                started: None,
                stratum: None,
                response: Response::Answer(answer),
            });
            let verdict = trial.verdict(sent);
            shares.push(verdict.max_share);
            if number == 2000 {
                assert!(matches!(verdict.decision, Decision::Promote { .. }));
                let held = " At most 1 % of the traffic until that has been held for 10m.";
                assert!(verdict.to_string().contains(held), "{verdict}");
            }
        }
        shares.dedup();
        assert_eq!(shares, [0.01, 1.0], "it is promoted within the ten minutes");
    }
}
