//! In which pods of a release its failures sit.
//!
//! Each pod is compared with the release's other pods as the canary is compared with stable: by the odds ratio,
//! given how many failed in a batch of the release's answers. Before the first failure nothing is known, so α is
//! shared out then: four fifths equally among the n pods that are there, the rest among those that come later, of
//! which the j-th gets 1/(j (j + 1)). So all of them together err with α at most.

use std::mem;

use serde::Serialize;

use super::odds::{GREATER, OddsTest, Table};
use crate::release::{Counts, Outcome, real};

/// Pods of a release that are tested. The answers of later ones count among "the other pods".
const MOST_PODS: usize = 64;
/// Answers in a batch for each pod that is known.
const ANSWERS_PER_POD: u64 = 2;
/// The probability that any pod is named without cause.
const ALPHA: f64 = 0.05;
/// The part of it for the pods that are there at the first failure.
const FIRST_PODS_PART: f64 = 0.8;

/// The e-value from which a pod stands out enough to doubt that the release makes the difference.
const STANDS_OUT: f64 = 2.0;

/// The pods of one release.
#[derive(Clone, Debug)]
pub(super) struct PodComparison {
    pods: Vec<Pod>,
    /// How many pods there were in the first batch with a failure.
    first_pods: Option<usize>,
    /// The answers of the open batch.
    batch: Counts,
    /// How many there will be: settled when it opens.
    length: u64,
    total: Counts,
}

#[derive(Clone, Debug)]
struct Pod {
    name: String,
    batch: Counts,
    total: Counts,
    test: OddsTest,
}

/// A pod that fails more often than the other pods of its release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailingPod {
    /// Its name.
    pub pod: String,
    /// Its answers.
    #[serde(flatten)]
    pub counts: Counts,
    /// The answers of the release's other pods.
    pub others: Counts,
}

impl PodComparison {
    pub(super) fn new() -> Self {
        Self {
            pods: Vec::new(),
            first_pods: None,
            batch: Counts::default(),
            length: 2 * ANSWERS_PER_POD,
            total: Counts::default(),
        }
    }

    /// Takes in an answer of that pod.
    pub(super) fn observe(&mut self, name: &str, outcome: Outcome) {
        if let Some(pod) = self.pod(name) {
            pod.batch.record(outcome);
        }
        self.batch.record(outcome);
        if self.batch.requests >= self.length {
            self.end_batch();
        }
    }

    fn pod(&mut self, name: &str) -> Option<&mut Pod> {
        let known = self.pods.iter().position(|pod| pod.name == name);
        let index = known.unwrap_or(self.pods.len());
        if known.is_none() && index < MOST_PODS {
            let (batch, total) = (Counts::default(), Counts::default());
            self.pods.push(Pod { name: name.to_owned(), batch, total, test: OddsTest::new(1.0, GREATER) });
        }
        self.pods.get_mut(index)
    }

    /// Ends the batch that is open.
    pub(super) fn end_batch(&mut self) {
        let all = mem::take(&mut self.batch);
        if all.failures > 0 {
            self.first_pods.get_or_insert(self.pods.len());
        }
        for pod in &mut self.pods {
            let suspect = mem::take(&mut pod.batch);
            pod.test.observe(Table { reference: all - suspect, suspect });
            pod.total += suspect;
        }
        self.total += all;
        let pods = u64::try_from(self.pods.len()).unwrap_or(u64::MAX);
        self.length = ANSWERS_PER_POD * pods.max(2);
    }

    /// Whether a pod has at least this failure rate and stands out from the others: whether more speaks for its
    /// failing more often than for its being like them.
    pub(super) fn any_fails_at(&self, rate: f64) -> bool {
        self.pods.iter().any(|pod| {
            pod.total.rate().is_some_and(|seen| seen >= rate) && pod.test.ln_e_value() >= STANDS_OUT.ln()
        })
    }

    /// The pods that fail more often than the others.
    pub(super) fn failing(&self) -> Vec<FailingPod> {
        let first = self.first_pods.unwrap_or(self.pods.len());
        let failing = self.pods.iter().enumerate().filter(|(index, pod)| {
            let alpha = match index.checked_sub(first) {
                None => FIRST_PODS_PART * ALPHA / number(first),
                Some(later) => (1.0 - FIRST_PODS_PART) * ALPHA / (number(later + 1) * number(later + 2)),
            };
            pod.test.peak_ln_e_value() >= -alpha.ln()
        });
        failing
            .map(|(_, pod)| FailingPod {
                pod: pod.name.clone(),
                counts: pod.total,
                others: self.total - pod.total,
            })
            .collect()
    }
}

fn number(pods: usize) -> f64 {
    real(u64::try_from(pods).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(rounds: u64, failing: &[&str]) -> PodComparison {
        let mut pods = PodComparison::new();
        for _ in 0..rounds {
            for pod in ["one", "two", "three", "four"] {
                let failed = failing.contains(&pod);
                pods.observe(pod, if failed { Outcome::Failure } else { Outcome::Success });
            }
        }
        pods
    }

    #[test]
    fn the_one_pod_that_fails_is_named_with_its_counts_and_the_others() {
        let mut pods = observed(10, &["three"]);
        pods.end_batch();
        let failing = pods.failing();
        let all: Vec<_> =
            failing.iter().map(|it| (it.pod.as_str(), it.counts.failures, it.others.failures)).collect();
        assert_eq!(all, [("three", 10, 0)]);
        assert_eq!(failing[0].others.requests, 30);
    }

    #[test]
    fn pods_that_all_fail_do_not_differ() {
        assert_eq!(observed(100, &["one", "two", "three", "four"]).failing(), []);
        assert_eq!(observed(100, &[]).failing(), []);
    }

    #[test]
    fn more_pods_than_are_tested_cost_no_memory_and_still_count_as_others() {
        let mut pods = PodComparison::new();
        for number in 0..100_000 {
            pods.observe(&format!("pod-{}", number % 1000), Outcome::Success);
        }
        assert_eq!(pods.pods.len(), MOST_PODS);
        (0..50).for_each(|_| pods.observe("pod-0", Outcome::Failure));
        (0..200).for_each(|number| pods.observe(&format!("pod-{number}"), Outcome::Success));
        assert_eq!(pods.failing().len(), 1);
    }
}
