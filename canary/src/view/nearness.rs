//! How near a trial is to each decision.

use canary_judge::{Decision, Verdict};

/// How near a verdict is to a promotion and to a roll-back, in whole per cent. Before a decision, at most 99.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Nearness {
    /// The part of the canary's answers that a promotion takes, if no more of them fail. Those in incidents that are left
    /// out are none of them.
    pub(crate) promotion: u8,
    /// The part of the evidence that a roll-back takes: the logarithm of the p-value, where ln α is all of it.
    pub(crate) roll_back: u8,
}

impl Nearness {
    pub(crate) fn of(verdict: &Verdict) -> Self {
        let left_out = verdict.by_limit.during_incidents.requests;
        let answers = verdict.canary.counts.requests.saturating_sub(left_out) as f64;
        let promotion = verdict.more_answers.map_or(0.0, |more| answers / (answers + more as f64));
        let roll_back = verdict.p_value.ln() / verdict.settings.alpha.get().ln();
        let (promoted, rolled_back) = match verdict.decision {
            Decision::Promote { .. } => (true, false),
            Decision::RollBack { .. } => (false, true),
            Decision::NotYet | Decision::Hold => (false, false),
        };
        Self { promotion: percent(promotion, promoted), roll_back: percent(roll_back, rolled_back) }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 99")]
fn percent(part: f64, is_decided: bool) -> u8 {
    if is_decided { 100 } else { (part * 100.0).clamp(0.0, 99.0) as u8 } // NaN, of no answers, is 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use canary_judge::{Batch, Counts, Judge, Settings};

    fn after(failures: u64, requests: u64) -> Nearness {
        let mut judge = Judge::new(Settings::default());
        let counts = |failures, requests| Counts { requests, failures, slow: 0 };
        let batch =
            Batch { stable: counts(0, 3 * requests), canary: counts(failures, requests), unattributed: 0 };
        judge.observe_batch(batch);
        Nearness::of(&judge.verdict())
    }

    /// An incident of both releases, and 100 answers of the canary after it.
    fn after_an_incident() -> Nearness {
        let mut judge = Judge::new(Settings::default());
        let counts = |failures, requests| Counts { requests, failures, slow: 0 };
        for failed in [1000, 0] {
            let requests = failed.max(100);
            judge.observe_batch(Batch {
                stable: counts(3 * failed, 3 * requests),
                canary: counts(failed, requests),
                unattributed: 0,
            });
        }
        Nearness::of(&judge.verdict())
    }

    #[test]
    fn only_a_decision_is_100_per_cent() {
        assert_eq!(after(0, 0), Nearness { promotion: 0, roll_back: 0 });
        assert_eq!(after(0, 172).promotion, 49);
        assert_eq!(after(0, 344).promotion, 99);
        assert_eq!(after(0, 400), Nearness { promotion: 100, roll_back: 0 });
        assert_eq!(after_an_incident().promotion, 23, "100 of 419, whatever was in the incident");
        let few = after(2, 20).roll_back;
        assert!((1..99).contains(&few), "{few}");
        assert_eq!(after(20, 20).roll_back, 100);
    }
}
