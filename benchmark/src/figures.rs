//! Figures of many runs.

use crate::{
    rule::Call,
    run::{Result, is_wrong, wanted},
    world::Truth,
};

/// The 97.5th percentile of the standard normal distribution.
const Z: f64 = 1.959_964;

/// The figures of one rule in one world.
pub struct Figures {
    pub runs: usize,
    /// Roll-backs of a canary that is alike, or promotions of one that is worse.
    pub wrong: usize,
    pub rolled_back: usize,
    pub promoted: usize,
    /// Requests until the call that is wanted, in ascending order, of the runs in which it came.
    requests: Vec<u64>,
    /// The canary's failed requests until then, in the same runs, in ascending order.
    failed: Vec<u64>,
}

impl Figures {
    pub fn new(truth: Truth, results: &[Result]) -> Self {
        let calls = |call: Call| results.iter().filter(|result| result.call == Some(call)).count();
        let right = || results.iter().filter(|result| result.call == Some(wanted(truth)));
        let mut requests: Vec<_> = right().map(|result| result.requests).collect();
        let mut failed: Vec<_> = right().map(|result| result.failed).collect();
        requests.sort_unstable();
        failed.sort_unstable();
        Self {
            runs: results.len(),
            wrong: results
                .iter()
                .filter(|result| result.call.is_some_and(|call| is_wrong(truth, call)))
                .count(),
            rolled_back: calls(Call::RollBack),
            promoted: calls(Call::Promote),
            requests,
            failed,
        }
    }

    /// The runs without a call.
    pub fn open(&self) -> usize {
        self.runs - self.rolled_back - self.promoted
    }

    /// The number of requests after which this part of all runs had the call that is wanted; `None` if fewer ever had it.
    pub fn requests_until(&self, part: f64) -> Option<u64> {
        quantile(&self.requests, part, self.runs)
    }

    /// The same for failed requests of the canary.
    pub fn failed_until(&self, part: f64) -> Option<u64> {
        quantile(&self.failed, part, self.runs)
    }

    /// The number of requests until the call that is wanted, of each run in which it came, in ascending order.
    pub fn requests(&self) -> &[u64] {
        &self.requests
    }
}

fn quantile(sorted: &[u64], part: f64, runs: usize) -> Option<u64> {
    let place = (part * runs as f64).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied()
}

/// The 95 % interval of a probability after `count` of `runs` (E. B. Wilson, "Probable inference, the law of succession, and
/// statistical inference", Journal of the American Statistical Association 22, 1927).
pub fn interval(count: usize, runs: usize) -> (f64, f64) {
    let (p, n) = (count as f64 / runs as f64, runs as f64);
    let middle = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    ((middle - half).max(0.0), (middle + half).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilsons_interval_is_that_of_the_article() {
        let (lower, upper) = interval(10, 100);
        assert!((lower - 0.0552).abs() < 1e-4 && (upper - 0.1744).abs() < 1e-4, "{lower}, {upper}");
        assert!(interval(0, 100).0 == 0.0 && interval(0, 100).1 < 0.04);
    }

    #[test]
    fn a_quantile_counts_the_runs_that_were_never_right() {
        let result = |call, requests| Result { call, requests, failed: 0 };
        let results = [result(Some(Call::RollBack), 7), result(None, 99), result(Some(Call::RollBack), 3)];
        let figures = Figures::new(Truth::Worse, &results);
        assert_eq!((figures.requests_until(0.5), figures.requests_until(0.95)), (Some(7), None));
        assert_eq!((figures.wrong, figures.open()), (0, 1));
    }
}
