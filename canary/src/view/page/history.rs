//! The course of a trial: what was known at some moments.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::trial::Trial;
use canary_judge::{Estimate, Verdict};

/// The maximum number of points that are kept. The present is added when they are shown.
const MOST_POINTS: usize = 119;
/// The time between two points of a new trial. It doubles whenever there are too many points.
const SPACING: Duration = Duration::from_millis(500);

/// What was known at some moments, evenly spaced.
#[derive(Clone, Debug)]
pub(crate) struct History {
    points: Vec<Point>,
    spacing: Duration,
    /// The time of the last point, and the trial's number of changes then.
    last: Option<(Instant, u64)>,
}

/// Seconds since the trial began; stable's failure rate and its bounds; the same of the canary; the natural
/// logarithm of the e-value. Unknown values are `None`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Point([Option<f64>; 8]);

impl Default for History {
    fn default() -> Self {
        Self { points: Vec::new(), spacing: SPACING, last: None }
    }
}

impl Point {
    /// What is known `now`.
    pub(super) fn new(trial: &Trial, verdict: &Verdict, now: Instant) -> Self {
        let seconds = now.saturating_duration_since(trial.tally().began()).as_secs_f64();
        let mut new = Self([None; 8]);
        new.0[0] = Some(seconds);
        for (first, Estimate { counts, bounds }) in [(1, verdict.stable), (4, verdict.canary)] {
            if let Some(rate) = counts.rate() {
                new.0[first..first + 3].copy_from_slice(&[rate, bounds.lower, bounds.upper].map(Some));
            }
        }
        new.0[7] = Some(verdict.ln_e_value);
        new
    }
}

impl History {
    /// Oldest first.
    pub(super) fn points(&self) -> &[Point] {
        &self.points
    }

    /// Adds a point for `now` if it is time for one. `changes` is the trial's number of changes.
    pub(crate) fn remember(&mut self, trial: &Trial, changes: u64, now: Instant) {
        let due = self.last.is_none_or(|(at, before)| {
            before != changes && now.saturating_duration_since(at) >= self.spacing
        });
        if !due {
            return;
        }
        if self.points.len() == MOST_POINTS {
            let mut keep = [true, false].into_iter().cycle();
            self.points.retain(|_| keep.next().unwrap_or(true));
            self.spacing = self.spacing.saturating_mul(2);
        }
        self.points.push(Point::new(trial, &trial.verdict(now), now));
        self.last = Some((now, changes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::Coverage;
    use canary_judge::Settings;

    #[test]
    fn many_points_are_thinned_evenly() {
        let start = Instant::now();
        let trial = Trial::new(Settings::default(), None, Coverage::All, start);
        let mut history = History::default();
        for tick in 0..4000_u32 {
            history.remember(&trial, tick.into(), start + tick * Duration::from_millis(250));
        }
        let seconds: Vec<_> = history.points().iter().filter_map(|Point([seconds, ..])| *seconds).collect();
        assert!((60..=MOST_POINTS).contains(&seconds.len()), "{}", seconds.len());
        let gaps: Vec<_> = seconds.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let (least, most) = gaps.iter().fold((f64::MAX, 0.0_f64), |(a, b), gap| (a.min(*gap), b.max(*gap)));
        assert!(most <= 2.0 * least, "{gaps:?}");
        assert!(seconds[0].abs() < f64::EPSILON);
    }

    #[test]
    fn nothing_is_added_while_nothing_changes() {
        let start = Instant::now();
        let trial = Trial::new(Settings::default(), None, Coverage::All, start);
        let mut history = History::default();
        (0..10).for_each(|second| history.remember(&trial, 1, start + Duration::from_secs(second)));
        assert_eq!(history.points().len(), 1);
    }
}
