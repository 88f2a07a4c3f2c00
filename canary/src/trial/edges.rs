//! Leaves out batches at the edge of a change.
//!
//! Scrapes of different pods happen at different moments, so an incident that hits both releases at once reaches
//! their counters at different times. Within one batch, a part of the incident is missing on one side. So this batch
//! would blame the other side. Such a batch is recognised by the failure rate of both sides together, which jumps from
//! one batch to the next.
//!
//! The rule uses only the totals of both sides. The judge's test is conditional on these totals, so it stays valid.

use std::collections::VecDeque;

use canary_judge::{Batch, Counts};

/// A jump is a difference of more than this many standard errors. With three, incidents that repeat every 90 s, with
/// scrapes every 60 s, are blamed on the canary in 6.0 % of runs; with two, in 2.8 %.
const JUMP: f64 = 2.0;
/// The number of batches left out on either side of a jump. With scrapes every 60 s for ten minutes, six would miss one
/// bad canary in two, and three miss one in 14.
const REACH: usize = 3;

/// Holds back each batch until the next ones are known.
#[derive(Clone, Debug, Default)]
pub(super) struct Edges {
    /// The batches that are held back, oldest first. The flag says that it lies near a jump, or does not count.
    held: VecDeque<(Batch, bool)>,
    /// Up to [`REACH`] + 1 batches since the last jump, not counting more.
    since_jump: Option<usize>,
}

impl Edges {
    /// Adds the next batch. Returns an earlier one, unless that lies near a jump. A batch that does not `count` is only
    /// compared with its neighbours.
    pub(super) fn next(&mut self, batch: Batch, counts: bool) -> Option<Batch> {
        let jumped = self.held.back().is_some_and(|(before, _)| jumps(before.total(), batch.total()));
        self.since_jump = if jumped { Some(0) } else { self.since_jump.map(|batches| batches + 1) };
        if jumped {
            self.held.iter_mut().rev().take(REACH).for_each(|(_, near)| *near = true);
        }
        let near = self.since_jump.is_some_and(|batches| batches < REACH);
        self.held.push_back((batch, near || !counts));
        if self.held.len() > REACH { self.held.pop_front().and_then(unless_near) } else { None }
    }

    /// The batches held back no longer count, but later ones are still compared with them.
    pub(super) fn forget(&mut self) {
        self.held.iter_mut().for_each(|(_, near)| *near = true);
    }

    /// Call this at the end. Returns the batches that were held back.
    pub(super) fn end(&mut self) -> impl Iterator<Item = Batch> {
        std::mem::take(&mut self.held).into_iter().filter_map(unless_near)
    }
}

fn unless_near((batch, near): (Batch, bool)) -> Option<Batch> {
    (!near).then_some(batch)
}

/// Whether two failure rates differ by more than [`JUMP`] standard errors of a common rate: the z-test of two
/// proportions.
fn jumps(one: Counts, other: Counts) -> bool {
    let (Some(first), Some(second)) = (one.rate(), other.rate()) else { return false };
    let pooled = (one + other).rate().unwrap_or(0.0);
    let variance = pooled * (1.0 - pooled) * (1.0 / (one.requests as f64) + 1.0 / (other.requests as f64));
    (first - second).abs() > JUMP * variance.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(failures: u64, requests: u64) -> Batch {
        Batch { stable: Counts { requests, failures, slow: 0 }, ..Batch::default() }
    }

    fn passed(rates: &[u64]) -> Vec<u64> {
        let mut edges = Edges::default();
        let mut passed: Vec<_> =
            rates.iter().filter_map(|failures| edges.next(batch(*failures, 100), true)).collect();
        passed.extend(edges.end());
        passed.iter().map(|batch| batch.stable.failures).collect()
    }

    #[test]
    fn batches_beside_a_jump_are_left_out_and_steady_ones_are_not() {
        assert_eq!(passed(&[1, 2, 0, 1]), [1, 2, 0, 1]);
        assert_eq!(passed(&[1, 0, 1, 2, 40, 90, 91, 90, 92, 89, 90, 91, 2, 1, 1, 0]), [1, 92, 0]);
        assert_eq!(passed(&[0]), [0]);
        assert_eq!(passed(&[]), [0; 0]);
    }
}
