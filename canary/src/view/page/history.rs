//! The course of a trial: what was known at some moments.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::trial::Trial;
use canary_judge::{Counts, Estimate, Verdict};

/// The maximum number of points that are kept. The present is added when they are shown.
const MOST_POINTS: usize = 119;
/// The time between two points of a new trial. It doubles whenever there are too many points.
const SPACING: Duration = Duration::from_millis(500);
const SECOND: Duration = Duration::from_secs(1);
/// The time over which the present rate is measured.
const PRESENT: Duration = Duration::from_secs(10);
/// The same for counters, which come once in a while.
const MINUTE: Duration = Duration::from_secs(60);

/// What was known at some moments, evenly spaced.
#[derive(Clone, Debug)]
pub(crate) struct History {
    points: Vec<Point>,
    spacing: Duration,
    /// The time of the last point, and the trial's number of changes then.
    last: Option<(Instant, u64)>,
    /// The counts of all requests at the seconds of the last minute, oldest first.
    seconds: VecDeque<(Instant, Counts)>,
}

/// Seconds since the trial began; stable's failure rate and its bounds; the same of the canary; the natural
/// logarithm of the e-value; the bound that a promotion by the limit takes. Unknown values are `None`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Point([Option<f64>; 9]);

/// What happens at present.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Present {
    /// Requests a second, over the last ten seconds; for counters, over the last minute.
    rate: f64,
    /// Of the last minute.
    requests: u64,
    failures: u64,
}

impl Default for History {
    fn default() -> Self {
        Self { points: Vec::new(), spacing: SPACING, last: None, seconds: VecDeque::new() }
    }
}

impl Point {
    /// What is known `now`.
    pub(super) fn new(trial: &Trial, verdict: &Verdict, now: Instant) -> Self {
        let seconds = now.saturating_duration_since(trial.tally().began()).as_secs_f64();
        let mut new = Self([None; 9]);
        new.0[0] = Some(seconds);
        for (first, Estimate { counts, bounds }) in [(1, verdict.stable), (4, verdict.canary)] {
            if let Some(rate) = counts.rate() {
                new.0[first..first + 3].copy_from_slice(&[rate, bounds.lower, bounds.upper].map(Some));
            }
        }
        new.0[7] = Some(verdict.ln_e_value);
        new.0[8] = verdict.canary.counts.rate().map(|_| verdict.promotion_bound);
        new
    }

    /// The same values at another time.
    fn at(mut self, trial: &Trial, now: Instant) -> Self {
        self.0[0] = Some(now.saturating_duration_since(trial.tally().began()).as_secs_f64());
        self
    }
}

impl History {
    /// Oldest first.
    pub(super) fn points(&self) -> &[Point] {
        &self.points
    }

    /// Adds a point for `now` if it is time for one. `changes` is the trial's number of changes.
    pub(crate) fn remember(&mut self, trial: &Trial, changes: u64, now: Instant) {
        self.remember_second(trial, now);
        let due = self.last.is_none_or(|(at, before)| {
            before != changes && now.saturating_duration_since(at) >= self.spacing
        });
        if !due {
            return;
        }
        // a time in which nothing changed is a flat line, not a slope
        let unchanged_until = now.checked_sub(self.spacing);
        if let (Some((at, _)), Some(until), Some(last)) = (self.last, unchanged_until, self.points.last())
            && until.saturating_duration_since(at) >= self.spacing
        {
            let last = *last;
            self.push(last.at(trial, until));
        }
        self.push(Point::new(trial, &trial.verdict(now), now));
        self.last = Some((now, changes));
    }

    fn push(&mut self, point: Point) {
        if self.points.len() == MOST_POINTS {
            let mut keep = [true, false].into_iter().cycle();
            self.points.retain(|_| keep.next().unwrap_or(true));
            self.spacing = self.spacing.saturating_mul(2);
        }
        self.points.push(point);
    }

    fn remember_second(&mut self, trial: &Trial, now: Instant) {
        if self.seconds.back().is_some_and(|(at, _)| now.saturating_duration_since(*at) < SECOND) {
            return;
        }
        // one that is older than a minute stays: the minute begins with it
        while self.seconds.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= MINUTE) {
            self.seconds.pop_front();
        }
        self.seconds.push_back((now, trial.tally().total()));
    }

    /// What happens at present. The rate is that of the last second that was remembered.
    pub(crate) fn present(&self, trial: &Trial) -> Present {
        let began = trial.tally().began();
        let (now, total) = self.seconds.back().copied().unwrap_or((began, Counts::default()));
        // the counts at the beginning of a time that ends now
        let before = |length| {
            let old = self.seconds.iter().rev().find(|(at, _)| now.saturating_duration_since(*at) >= length);
            old.copied().unwrap_or((began, Counts::default()))
        };
        let is_counted = trial.tally().recent().is_empty();
        let (since, counts) = before(if is_counted { MINUTE } else { PRESENT });
        let seconds = now.saturating_duration_since(since).as_secs_f64();
        let requests = (total.requests - counts.requests) as f64;
        let rate = if seconds > 0.0 { (requests / seconds * 1e3).round() / 1e3 } else { 0.0 };
        // up to now, as all other counts
        let minute = trial.tally().total() - before(MINUTE).1;
        Present { rate, requests: minute.requests, failures: minute.failures }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        source::{Answer, Attribution, Observation, Response},
        trial::Coverage,
    };
    use canary_judge::{Outcome, Release, Settings};

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

    /// An answer of stable.
    fn answer(sent: Instant, number: u64, outcome: Outcome) -> Observation {
        let attribution = Attribution::Release(Release::Stable);
        let answer = Answer { attribution, outcome, status: None, latency: None, pod: None, info: None };
        Observation { number, sent, started: None, stratum: None, response: Response::Answer(answer) }
    }

    #[test]
    fn the_rate_is_the_present_one_and_falls_when_requests_stop() {
        let start = Instant::now();
        let mut trial = Trial::new(Settings::default(), None, Coverage::All, start);
        let mut history = History::default();
        let mut rates = Vec::new();
        // two minutes without a request, one with 40 a second, and one without
        for tick in 0..1000_u32 {
            let now = start + tick * Duration::from_millis(250);
            if (480..720).contains(&tick) {
                for request in 0..10 {
                    let number = u64::from(tick - 480) * 10 + request;
                    let outcome = if number % 100 == 0 { Outcome::Failure } else { Outcome::Success };
                    trial.observe(&answer(now, number, outcome));
                }
            }
            history.remember(&trial, trial.tally().total().requests, now);
            rates.push(history.present(&trial));
        }
        for (tick, requests) in [(480, 10), (481, 20), (483, 40), (484, 50)] {
            assert_eq!(rates[tick].requests, requests, "at once, with all other counts");
        }
        assert!((rates[479].rate).abs() < f64::EPSILON);
        assert!((rates[530].rate - 40.0).abs() < 1.0, "{:?}: not an average since the beginning", rates[530]);
        assert!((2360..=2400).contains(&rates[719].requests), "{:?}: of a minute", rates[719]);
        assert_eq!(rates[719].failures, 24);
        assert_eq!(rates[999], Present { rate: 0.0, requests: 0, failures: 0 });
        assert!(history.seconds.len() <= 62, "{}", history.seconds.len());
    }

    #[test]
    fn a_time_without_requests_is_flat_and_no_slope() {
        let start = Instant::now();
        let mut trial = Trial::new(Settings::default(), None, Coverage::All, start);
        let mut history = History::default();
        for tick in 0..500_u32 {
            let now = start + tick * Duration::from_millis(250);
            if !(20..=480).contains(&tick) {
                trial.observe(&answer(now, tick.into(), Outcome::Success));
            }
            history.remember(&trial, trial.tally().total().requests, now);
        }
        let uppers: Vec<_> = history.points().iter().map(|Point(values)| (values[0], values[3])).collect();
        let at =
            uppers.iter().position(|(seconds, _)| seconds.is_some_and(|it| it > 100.0)).expect("a point");
        assert_eq!(uppers[at].1, uppers[at - 1].1, "the bound as it was before: {uppers:?}");
    }
}
