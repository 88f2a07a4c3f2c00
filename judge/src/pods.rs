//! Finds the pods that fail more often than the other pods of their release.
//!
//! Each pod is compared with the release's other pods by the test that compares the canary with stable: the
//! test of the odds ratio, conditional on the number of failures in a batch. The pods share α (see
//! [`crate::alpha`]). The shares are fixed in the first batch with a failure, because earlier batches have no
//! information. So the error probability of all pods together is at most α.

use std::mem;

use serde::{Deserialize, Serialize};

use crate::odds::{GREATER, OddsTest, Table};
use crate::{Counts, Outcome, alpha};

/// The most pods of a release that are tested. Answers of later pods count only as answers of "the other pods".
const MOST_PODS: usize = 64;
/// The number of answers in a batch, for each known pod.
const ANSWERS_PER_POD: u64 = 2;

/// A pod with at least this e-value stands out: then the release may not be the cause of the difference.
const STANDS_OUT: f64 = 2.0;

/// The pods of one release.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct PodComparison {
    alpha: f64,
    pods: Vec<PodEvidence>,
    /// The number of pods known in the first batch with a failure.
    first_pods: Option<usize>,
    /// The answers of the open batch.
    batch: Counts,
    /// The number of answers at which the open batch is complete. It is fixed when the batch opens.
    length: u64,
    total: Counts,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct PodEvidence {
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
    /// `alpha` is the probability that any pod is named although all pods are alike.
    pub(super) fn new(alpha: f64) -> Self {
        Self {
            alpha,
            pods: Vec::new(),
            first_pods: None,
            batch: Counts::default(),
            length: 2 * ANSWERS_PER_POD,
            total: Counts::default(),
        }
    }

    /// Adds an answer of the pod `name`.
    pub(super) fn observe(&mut self, name: &str, outcome: Outcome) {
        if let Some(pod) = self.pod(name) {
            pod.batch.record(outcome);
        }
        self.batch.record(outcome);
        if self.batch.requests >= self.length {
            self.end_batch();
        }
    }

    /// Adds the answers of the pod `name` between two scrapes. They are not compared with those of other pods.
    pub(super) fn add(&mut self, name: &str, counts: Counts) {
        if let Some(pod) = self.pod(name) {
            pod.total += counts;
        }
        self.total += counts;
    }

    fn pod(&mut self, name: &str) -> Option<&mut PodEvidence> {
        let known = self.pods.iter().position(|pod| pod.name == name);
        let index = known.unwrap_or(self.pods.len());
        if known.is_none() && index < MOST_PODS {
            let (batch, total) = (Counts::default(), Counts::default());
            self.pods.push(PodEvidence {
                name: name.to_owned(),
                batch,
                total,
                test: OddsTest::new(1.0, GREATER),
            });
        }
        self.pods.get_mut(index)
    }

    /// Ends the open batch.
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

    /// Whether any pod has at least this failure rate, and stands out from the other pods.
    pub(super) fn any_fails_at(&self, rate: f64) -> bool {
        self.pods.iter().any(|pod| {
            pod.total.rate().is_some_and(|seen| seen >= rate) && pod.test.ln_e_value() >= STANDS_OUT.ln()
        })
    }

    /// The answers of each pod that is known.
    pub(super) fn totals(&self) -> impl ExactSizeIterator<Item = Counts> + Clone {
        self.pods.iter().map(|pod| pod.total)
    }

    /// The pods that fail more often than the others.
    pub(super) fn failing(&self) -> Vec<FailingPod> {
        let first = self.first_pods.unwrap_or(self.pods.len());
        let failing = self.pods.iter().enumerate().filter(|(index, pod)| {
            let alpha = self.alpha * alpha::of_each(*index, first);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(rounds: u64, failing: &[&str]) -> PodComparison {
        let mut pods = PodComparison::new(0.05);
        for _ in 0..rounds {
            for pod in ["one", "two", "three", "four"] {
                let failed = failing.contains(&pod);
                pods.observe(pod, if failed { Outcome::Failure } else { Outcome::Success });
            }
        }
        pods
    }

    #[test]
    fn a_failing_pod_is_named_with_its_counts_and_those_of_the_others() {
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
    fn pods_beyond_the_limit_take_no_memory_and_still_count_as_others() {
        let mut pods = PodComparison::new(0.05);
        for number in 0..100_000 {
            pods.observe(&format!("pod-{}", number % 1000), Outcome::Success);
        }
        assert_eq!(pods.pods.len(), MOST_PODS);
        (0..50).for_each(|_| pods.observe("pod-0", Outcome::Failure));
        (0..200).for_each(|number| pods.observe(&format!("pod-{number}"), Outcome::Success));
        assert_eq!(pods.failing().len(), 1);
    }
}
