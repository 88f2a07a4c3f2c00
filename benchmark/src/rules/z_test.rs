//! A z-test of two proportions, looked at each minute.

use canary_judge::{Batch, Counts};

use crate::{
    rule::{Call, Entry, Rule},
    stream::{Ended, count},
};

pub const ENTRY: Entry = Entry {
    name: "z-test",
    description: "A z-test of two proportions with a pooled variance, at level 5 % on both sides, looked at each minute. It \
                  rolls back if the canary is significantly worse, and promotes after an hour without that. (Any textbook; \
                  the level holds for one look.)",
    begin: |_| Some(Box::new(ZTest::default())),
};

/// The 97.5th percentile of the standard normal distribution.
const Z: f64 = 1.959_964;
/// Minutes until a promotion.
const LONGEST: u64 = 60;

#[derive(Default)]
struct ZTest(Batch);

/// The z-statistic of "the canary fails more"; `None` without answers of both or without failures.
fn z(stable: Counts, canary: Counts) -> Option<f64> {
    let (stable_rate, canary_rate, pooled) = (stable.rate()?, canary.rate()?, (stable + canary).rate()?);
    let variance = pooled * (1.0 - pooled) * (1.0 / stable.requests as f64 + 1.0 / canary.requests as f64);
    (variance > 0.0).then(|| (canary_rate - stable_rate) / variance.sqrt())
}

impl Rule for ZTest {
    fn ended(&mut self, request: &Ended) {
        match request.sent.release {
            canary_judge::Release::Stable => count(&mut self.0.stable, request),
            canary_judge::Release::Canary => count(&mut self.0.canary, request),
        }
    }

    fn minute(&mut self, minutes: u64) -> Option<Call> {
        if z(self.0.stable, self.0.canary).is_some_and(|z| z > Z) {
            return Some(Call::RollBack);
        }
        (minutes >= LONGEST).then_some(Call::Promote)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 20 of 100 against 10 of 100: (0.2 − 0.1) / √(0.15 × 0.85 × 0.02) = 1.980.
    #[test]
    fn it_is_the_textbooks_statistic() {
        let counts = |failures, requests| Counts { requests, failures, slow: 0 };
        assert!((z(counts(10, 100), counts(20, 100)).unwrap() - 1.980_295).abs() < 1e-5);
        assert_eq!(z(counts(0, 100), counts(0, 100)), None);
    }
}
