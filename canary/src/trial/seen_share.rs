//! The canary's share of the requests at the moment, as it is seen.

use std::time::{Duration, Instant};

use canary_judge::Release;
use serde::{Deserialize, Serialize};

/// Recent answers of both releases. The weight of an answer halves in [`HALF_LIFE`].
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(super) struct SeenShare {
    stable: f64,
    canary: f64,
    #[serde(with = "crate::moment")]
    at: Option<Instant>,
}

/// With 10 requests a second, a share of 1/4 then has a standard error of 4 %.
const HALF_LIFE: Duration = Duration::from_secs(8);
/// With less than this, nothing has answered for long.
const LEAST: f64 = 0.5;

impl SeenShare {
    /// Adds answers of this time. `scrape` is the time between two scrapes, if they were scraped.
    pub(super) fn see(&mut self, release: Release, answers: u64, at: Instant, scrape: Duration) {
        let before = self.at.unwrap_or(at);
        let decay = Self::decay(at.saturating_duration_since(before), scrape);
        (self.stable, self.canary) = (self.stable * decay, self.canary * decay);
        match release {
            Release::Stable => self.stable += answers as f64,
            Release::Canary => self.canary += answers as f64,
        }
        self.at = Some(at.max(before));
    }

    fn decay(time: Duration, scrape: Duration) -> f64 {
        0.5_f64.powf(time.as_secs_f64() / HALF_LIFE.max(scrape).as_secs_f64())
    }

    /// The canary's share, from 0 to 1; `None` if hardly anything has answered.
    pub(super) fn share(&self, now: Instant, scrape: Duration) -> Option<f64> {
        let decay = Self::decay(now.saturating_duration_since(self.at?), scrape);
        let all = self.stable + self.canary;
        (all * decay >= LEAST).then(|| self.canary / all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_follows_the_traffic_within_seconds() {
        let (began, mut seen) = (Instant::now(), SeenShare::default());
        assert_eq!(seen.share(began, Duration::ZERO), None);
        let at = |tenth: u32| began + tenth * Duration::from_millis(100);
        for tenth in 0..600 {
            let release = if tenth >= 300 && tenth % 2 == 0 { Release::Canary } else { Release::Stable };
            seen.see(release, 1, at(tenth), Duration::ZERO);
            let share = seen.share(at(tenth), Duration::ZERO).expect("it answers");
            match tenth {
                0..300 => assert!(share == 0.0),
                500.. => assert!((0.4..0.51).contains(&share), "{tenth}: {share}"),
                _ => {}
            }
        }
        assert_eq!(seen.share(at(2000), Duration::ZERO), None, "nothing answers any more");
    }
}
