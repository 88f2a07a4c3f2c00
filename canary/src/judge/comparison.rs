//! Whether the canary fails more often than stable: [`SequentialTest`], valid however often one looks.

use std::collections::VecDeque;

use crate::release::{Counts, PerRelease, Release, real};

/// A one-sided sequential test of two proportions: is the canary's failure rate greater than stable's?
///
/// The method is that of R. Turner, A. Ly and P. Grünwald, "Generic E-variables for exact sequential k-sample
/// tests that allow for optional stopping" (arXiv 2106.02693; J. Statistical Planning and Inference 230,
/// 2024). Answers form blocks. A block of n₁ answers of stable and n₂ of the canary has the e-value
///
/// ```text
/// e = ∏ p(y; θ₁)/p(y; θ₀) over stable's × ∏ p(y; θ₂)/p(y; θ₀) over the canary's,
/// θ₀ = (n₁θ₁ + n₂θ₂)/(n₁ + n₂),
/// ```
///
/// where y is 1 for a failure and 0 for a success, and p(1; θ) = θ, p(0; θ) = 1 − θ. The plug-in estimates θ₁
/// and θ₂ are the posterior means given the blocks before, under the priors Beta(0.18, 0.18) of the paper.
/// Where θ₂ is not above θ₁, the block speaks for nothing and has the e-value 1.
///
/// Whatever failure rate the releases share, a block's e-value has an expectation of at most 1 (as the paper
/// proves, by the inequality of the arithmetic and the geometric mean). As θ₂ > θ₁, the factors of the
/// canary's answers rise with its failure rate and those of stable's fall with its own, so the same holds for
/// every pair of rates with the canary's not above stable's. The product over the blocks is then a test
/// supermartingale under that whole hypothesis, and by Ville's inequality rejecting it once the product has
/// ever reached 1/α is wrong with probability at most α.
///
/// # How answers become blocks
///
/// An answer goes into the oldest open block that lacks one of its release, else into a new one. A block's
/// sizes are chosen when it opens: one answer of the release that was rarer among the last 64 answers and, of
/// the other, about as many as came to each of those. When 8 blocks are open, an answer that fits into none
/// is left out. Blocks begin with the first answer of the second release; what one release answered alone
/// before only feeds the estimates.
///
/// So it is settled before an answer is looked at whether it counts, in which block, and of what sizes. As
/// both releases fill the blocks in the same order, all that has been seen when a block opens belongs to
/// earlier blocks: given those, its answers are as fresh as any, and the argument above holds block by block.
/// It asks that each answer fails with the rate of its release whatever came before, and nothing of how
/// requests are routed: the order in which the releases answer may depend on what failed before, as when
/// somebody scales the canary because of what they saw.
///
/// The cap, and beginning with the second release, keep together what happened together: an outage that hits
/// both releases is not taken for the canary's because it is compared with stable's better days.
#[derive(Clone, Debug, Default)]
pub struct SequentialTest {
    /// What the plug-in estimates rest on: completed blocks, and answers before both releases had answered.
    past: PerRelease<Counts>,
    seen: PerRelease<bool>,
    recent: RecentReleases,
    /// Oldest first. They fill and complete in this order.
    open: VecDeque<Block>,
    ln_e_value: f64,
    peak_ln_e_value: f64,
}

/// With 8, a difference of 1 % and 10 % at a quarter of the traffic is called after 245 answers (the median
/// of 2,000 simulated runs), with 1 after 340, without a limit after 245.
const MAX_OPEN_BLOCKS: usize = 8;

impl SequentialTest {
    /// A test that has seen nothing: its e-value is 1.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the next answer.
    pub fn observe(&mut self, release: Release, failed: bool) {
        *self.seen.of_mut(release) = true;
        if !self.seen.of(release.other()) {
            self.past.of_mut(release).record(failed);
            return;
        }
        if let Some(block) = self.block_for(release) {
            block.seen.of_mut(release).record(failed);
        }
        self.recent.push(release);
        if self.open.front().is_some_and(Block::is_complete)
            && let Some(block) = self.open.pop_front()
        {
            self.ln_e_value += block.ln_e_value(posterior_means(self.past));
            self.peak_ln_e_value = self.peak_ln_e_value.max(self.ln_e_value);
            self.past.stable += block.seen.stable;
            self.past.canary += block.seen.canary;
        }
    }

    fn block_for(&mut self, release: Release) -> Option<&mut Block> {
        let index = match self.open.iter().position(|block| block.lacks(release)) {
            Some(index) => index,
            None if self.open.len() < MAX_OPEN_BLOCKS => {
                self.open.push_back(Block { sizes: self.recent.block_sizes(), seen: PerRelease::default() });
                self.open.len() - 1
            }
            None => return None,
        };
        self.open.get_mut(index)
    }

    /// The natural logarithm of the e-value: of the product over all complete blocks.
    pub fn ln_e_value(&self) -> f64 {
        self.ln_e_value
    }

    /// Whether the e-value has ever reached 1/α: whether the hypothesis that the canary fails no more often
    /// than stable is rejected at the level `alpha`.
    pub fn rejects(&self, alpha: f64) -> bool {
        self.peak_ln_e_value >= -alpha.ln()
    }

    /// The smallest level at which the test rejects: one over the greatest e-value so far, at most 1. This is
    /// an anytime-valid p-value (A. Ramdas et al., "Game-theoretic statistics and safe anytime-valid
    /// inference", Statistical Science 38, 2023).
    pub fn p_value(&self) -> f64 {
        (-self.peak_ln_e_value).exp()
    }
}

/// Which releases the last 64 answers came from.
#[derive(Clone, Copy, Debug, Default)]
struct RecentReleases {
    /// The newest is the lowest bit; 1 is the canary.
    canaries: u64,
    known: u32,
}

impl RecentReleases {
    fn push(&mut self, release: Release) {
        self.canaries = self.canaries << 1 | u64::from(release == Release::Canary);
        self.known = (self.known + 1).min(u64::BITS);
    }

    /// The sizes of the next block. Small blocks, as the paper advises: the estimates improve with every one.
    fn block_sizes(self) -> PerRelease<u64> {
        let canary = u64::from(self.canaries.count_ones());
        let stable = u64::from(self.known) - canary;
        // One more of each, for a release that has not answered lately will again.
        let (stable, canary) = (stable + 1, canary + 1);
        let rounded = |more: u64, fewer: u64| (more + fewer / 2) / fewer;
        PerRelease { stable: rounded(stable, canary).max(1), canary: rounded(canary, stable).max(1) }
    }
}

/// Answers of both releases that are compared with each other.
#[derive(Clone, Copy, Debug)]
struct Block {
    sizes: PerRelease<u64>,
    seen: PerRelease<Counts>,
}

impl Block {
    fn lacks(&self, release: Release) -> bool {
        self.seen.of(release).requests < *self.sizes.of(release)
    }

    fn is_complete(&self) -> bool {
        !self.lacks(Release::Stable) && !self.lacks(Release::Canary)
    }

    /// The logarithm of the e-value of a complete block, given the estimates of both releases' failure rates.
    fn ln_e_value(&self, estimates: PerRelease<f64>) -> f64 {
        if estimates.canary <= estimates.stable {
            return 0.0;
        }
        let (stable, canary) = (real(self.sizes.stable), real(self.sizes.canary));
        let pooled = (stable * estimates.stable + canary * estimates.canary) / (stable + canary);
        let ln_ratio = |seen: Counts, estimate: f64| {
            real(seen.failures) * (estimate / pooled).ln()
                + real(seen.successes()) * ((1.0 - estimate) / (1.0 - pooled)).ln()
        };
        ln_ratio(self.seen.stable, estimates.stable) + ln_ratio(self.seen.canary, estimates.canary)
    }
}

/// The means of Beta(0.18 + failures, 0.18 + successes). 0.18 is the paper's choice.
fn posterior_means(past: PerRelease<Counts>) -> PerRelease<f64> {
    const PRIOR: f64 = 0.18;
    let mean = |seen: Counts| (PRIOR + real(seen.failures)) / (2.0 * PRIOR + real(seen.requests));
    PerRelease { stable: mean(past.stable), canary: mean(past.canary) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::testing::{assert_close, counts};
    use Release::{Canary, Stable};

    #[test]
    fn an_e_value_is_that_of_the_formula() {
        let mut test = SequentialTest::new();
        let mut expected = 0.0;
        // What one release answers alone only feeds the estimates: (0.18 + 0)/(0.36 + 1) for stable.
        test.observe(Stable, false);
        assert_close(test.ln_e_value(), expected);

        // The first block, one of each: the estimates 0.18/1.36 and 1/2.
        let pooled: f64 = f64::midpoint(0.18 / 1.36, 0.5);
        test.observe(Canary, true);
        test.observe(Stable, false);
        expected += (0.5 / pooled).ln() + (1.18 / 1.36 / (1.0 - pooled)).ln();
        assert_close(test.ln_e_value(), expected);

        // One of each again: 0.18/2.36 and 1.18/1.36, and an outcome that speaks against a difference. Before
        // it is complete, the next answer of stable opens a block of (2 + 1)/(1 + 1), so two, and one.
        let pooled: f64 = f64::midpoint(0.18 / 2.36, 1.18 / 1.36);
        test.observe(Stable, true);
        test.observe(Stable, false);
        assert_close(test.ln_e_value(), expected);
        test.observe(Canary, false);
        expected += (0.18 / 2.36 / pooled).ln() + (0.18 / 1.36 / (1.0 - pooled)).ln();
        assert_close(test.ln_e_value(), expected);

        // Two of stable and one of the canary: 1.18/3.36 and 1.18/2.36.
        let pooled: f64 = (2.0 * 1.18 / 3.36 + 1.18 / 2.36) / 3.0;
        test.observe(Canary, true);
        test.observe(Stable, false);
        expected += 2.0 * (2.18 / 3.36 / (1.0 - pooled)).ln() + (1.18 / 2.36 / pooled).ln();
        assert_close(test.ln_e_value(), expected);
    }

    #[test]
    fn the_test_rejects_for_good_once_the_e_value_has_reached_one_over_alpha() {
        let mut test = SequentialTest::new();
        for failed in [true; 6].into_iter().chain([false; 100]) {
            test.observe(Stable, !failed);
            test.observe(Canary, failed);
        }
        assert!(test.ln_e_value() < 0.0);
        assert!(test.p_value() < 0.01);
        assert!(test.rejects(0.01) && !test.rejects(test.p_value() / 2.0));
    }

    #[test]
    fn a_canary_that_fails_less_is_never_rejected() {
        let mut test = SequentialTest::new();
        for _ in 0..1000 {
            test.observe(Stable, true);
            test.observe(Canary, false);
        }
        assert_close(test.p_value(), 1.0);
    }

    fn binomial(n: u64, k: u64, rate: f64) -> f64 {
        let coefficient: f64 = (0..k).map(|i| real(n - i) / real(i + 1)).product();
        coefficient * rate.powf(real(k)) * (1.0 - rate).powf(real(n - k))
    }

    /// The expectation of a block's e-value, over all its outcomes.
    fn expectation(sizes: PerRelease<u64>, estimates: PerRelease<f64>, rates: PerRelease<f64>) -> f64 {
        let mut sum = 0.0;
        for stable in 0..=sizes.stable {
            for canary in 0..=sizes.canary {
                let seen =
                    PerRelease { stable: counts(stable, sizes.stable), canary: counts(canary, sizes.canary) };
                sum += binomial(sizes.stable, stable, rates.stable)
                    * binomial(sizes.canary, canary, rates.canary)
                    * Block { sizes, seen }.ln_e_value(estimates).exp();
            }
        }
        sum
    }

    /// All sizes that a block can have.
    fn block_sizes() -> impl Iterator<Item = PerRelease<u64>> {
        let rare = |n| [PerRelease { stable: n, canary: 1 }, PerRelease { stable: 1, canary: n }];
        (1..=65).flat_map(rare)
    }

    const GRID: [f64; 9] = [0.0, 0.000_1, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 1.0];
    const ESTIMATES: [f64; 6] = [0.000_01, 0.001, 0.02, 0.3, 0.7, 0.999];

    #[test]
    fn a_block_has_an_expectation_of_at_most_one_while_the_canary_is_no_worse() {
        for sizes in block_sizes() {
            for (stable, canary) in ESTIMATES.iter().flat_map(|a| ESTIMATES.iter().map(|b| (*a, *b))) {
                let estimates = PerRelease { stable, canary };
                for (i, stable) in GRID.into_iter().enumerate() {
                    for canary in GRID.into_iter().take(i + 1) {
                        let rates = PerRelease { stable, canary };
                        let expectation = expectation(sizes, estimates, rates);
                        assert!(
                            expectation <= 1.0 + 1e-9,
                            "{expectation}: {sizes:?} {estimates:?} {rates:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_block_has_an_expectation_above_one_where_the_estimates_are_right() {
        for sizes in block_sizes() {
            let rates = PerRelease { stable: 0.02, canary: 0.3 };
            assert!(expectation(sizes, rates, rates) > 1.01, "{sizes:?}");
        }
    }

    #[test]
    fn blocks_follow_the_share_of_the_releases() {
        for (stable, canary, expected) in [(3, 1, (3, 1)), (1, 1, (1, 1)), (1, 3, (1, 3)), (15, 1, (12, 1))] {
            let mut recent = RecentReleases::default();
            for _ in 0..64 {
                (0..stable).for_each(|_| recent.push(Stable));
                (0..canary).for_each(|_| recent.push(Canary));
            }
            let sizes = recent.block_sizes();
            assert_eq!((sizes.stable, sizes.canary), expected);
        }
        let mut lonely = RecentReleases::default();
        (0..1000).for_each(|_| lonely.push(Stable));
        assert_eq!(lonely.block_sizes(), PerRelease { stable: 65, canary: 1 });
    }

    #[test]
    fn what_one_release_answers_alone_is_left_out_and_takes_no_memory() {
        let mut test = SequentialTest::new();
        test.observe(Stable, false);
        test.observe(Canary, false);
        for _ in 0..100_000 {
            test.observe(Stable, false);
        }
        assert!(test.open.len() <= MAX_OPEN_BLOCKS);
        assert!(test.past.stable.requests < 1000);
    }

    /// A routing that knows all that has been seen, and decides from it which release answers next.
    type Routing = fn(&[(Release, bool)]) -> Release;

    fn tree(
        routing: Routing,
        seen: &mut Vec<(Release, bool)>,
        test: &SequentialTest,
        rate: f64,
        value: &dyn Fn(&SequentialTest) -> f64,
    ) -> f64 {
        const DEPTH: usize = 16;
        if seen.len() == DEPTH {
            return value(test);
        }
        let release = routing(seen);
        let mut sum = 0.0;
        for (failed, probability) in [(true, rate), (false, 1.0 - rate)] {
            let mut test = test.clone();
            test.observe(release, failed);
            seen.push((release, failed));
            sum += probability * tree(routing, seen, &test, rate, value);
            seen.pop();
        }
        sum
    }

    fn over_all_outcomes(routing: Routing, rate: f64, value: impl Fn(&SequentialTest) -> f64) -> f64 {
        tree(routing, &mut Vec::new(), &SequentialTest::new(), rate, &value)
    }

    #[test]
    fn the_e_value_of_equal_releases_has_an_expectation_of_at_most_one() {
        let routings: [Routing; 4] = [
            |seen| if seen.len() % 2 == 0 { Stable } else { Canary },
            |seen| if seen.len() % 4 == 3 { Canary } else { Stable },
            |seen| if seen.len() % 5 == 2 { Stable } else { Canary },
            |seen| if seen.len() % 8 < 5 { Stable } else { Canary },
        ];
        for routing in routings {
            for rate in [0.01, 0.1, 0.3, 0.5, 0.8] {
                let expectation = over_all_outcomes(routing, rate, |test| test.ln_e_value().exp());
                assert!(expectation <= 1.0 + 1e-9, "{expectation} at {rate}");
                assert!(expectation > 0.2, "{expectation} at {rate}: the test bets on nothing");
            }
        }
    }

    #[test]
    fn routing_that_follows_the_failures_does_not_break_the_level() {
        let routings: [Routing; 4] = [
            // The canary answers after a failure, else stable; and the other way round.
            |seen| if seen.last().is_some_and(|(_, failed)| *failed) { Canary } else { Stable },
            |seen| if seen.last().is_none_or(|(_, failed)| *failed) { Stable } else { Canary },
            // A release answers until it has failed.
            |seen| match seen.last() {
                Some((release, failed)) => {
                    if *failed {
                        release.other()
                    } else {
                        *release
                    }
                }
                None => Canary,
            },
            // The canary answers as long as it has failed more than stable.
            |seen| {
                let failures = |of| seen.iter().filter(|(release, failed)| *release == of && *failed).count();
                if failures(Canary) > failures(Stable) || seen.len() == 1 { Canary } else { Stable }
            },
        ];
        for routing in routings {
            for rate in [0.01, 0.1, 0.3, 0.5, 0.8] {
                for alpha in [0.2, 0.5, 0.8] {
                    let rejected =
                        over_all_outcomes(routing, rate, |test| if test.rejects(alpha) { 1.0 } else { 0.0 });
                    assert!(rejected <= alpha, "{rejected} > {alpha} at {rate}");
                }
            }
        }
    }
}
