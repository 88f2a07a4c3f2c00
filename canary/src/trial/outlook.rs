//! What the traffic can show in some time, said at the start.

use std::time::Duration;

use canary_judge::{Fraction, Release};

use super::Trial;
use crate::source::Seen;

impl Trial {
    /// What so many requests a second show in this `time`. In words, without a full stop.
    pub fn outlook(&self, rate: f64, time: Option<Duration>) -> String {
        self.settings.outlook(rate, self.given_share.map(Fraction::get), time)
    }
}

/// The same where rate and share are known only from what was counted: it is said once.
#[derive(Debug, Default)]
pub struct CountedOutlook {
    intervals: u32,
}

/// It is said after this many intervals in which both releases have answered.
const INTERVALS: u32 = 3;

impl CountedOutlook {
    /// What there is to say after what a source has yielded, and the trial has seen.
    pub fn after(&mut self, seen: &Seen, trial: &Trial, time: Option<Duration>) -> Option<String> {
        if !matches!(seen, Seen::Interval(_)) || self.intervals >= INTERVALS {
            return None;
        }
        let [stable, canary] = Release::BOTH.map(|release| trial.tally().of_release(release).requests as f64);
        if stable == 0.0 || canary == 0.0 {
            return None;
        }
        self.intervals += 1;
        let rate = trial.counted_rate().filter(|_| self.intervals == INTERVALS)?;
        Some(trial.settings.outlook(rate, Some(canary / (stable + canary)), time))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::{
        source::{CountedWindow, Coverage, Interval},
        trial::Trial,
    };
    use canary_judge::{Counts, Settings, Window};

    #[test]
    fn what_was_counted_tells_the_outlook_once() {
        let began = Instant::now();
        let mut trial = Trial::new(Settings::default(), None, Coverage::All, began);
        let mut outlook = CountedOutlook::default();
        let said: Vec<_> = (0..6)
            .filter_map(|round| {
                let until = 15.0 * f64::from(round);
                let window = |release: Release, requests| {
                    let counts = Counts { requests, failures: 0, slow: 0 };
                    let (since, pod) = ((until - 15.0).max(0.0), release.to_string().as_str().into());
                    let window = Window {
                        release,
                        pod,
                        since,
                        until,
                        counts,
                        restarted: false,
                        is_warm_up: false,
                        latencies: Vec::new(),
                        strata: Vec::new(),
                    };
                    CountedWindow { version: String::new(), window, started: None }
                };
                let (stable, canary) = if round == 0 { (0, 0) } else { (27, 3) };
                let windows = vec![window(Release::Stable, stable), window(Release::Canary, canary)];
                let at = began + Duration::from_secs_f64(until);
                let seen = Seen::Interval(Interval { at, clock: until, began: 0.0, windows });
                trial.see(&seen);
                outlook.after(&seen, &trial, Some(Duration::from_secs(3600)))
            })
            .collect();
        assert_eq!(
            said,
            [
                "at 2 requests a second, a tenth of them the canary's, and none that fails, 1h can exclude a failure rate above \
              0.48 %; 1 % takes 29m, and with a half of them 5m 45s"
            ]
        );
    }
}
