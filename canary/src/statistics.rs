//! Statistics that stay valid however often one looks: a test of two failure rates, [`SequentialTest`], and a
//! confidence interval for one, [`ConfidenceSequence`].
//!
//! Both rest on Ville's inequality (J. Ville, "Étude critique de la notion de collectif", 1939): a
//! nonnegative supermartingale that starts at 1 ever reaches 1/α with probability at most α. Whoever looks
//! after every answer, and stops when the answer suits, is therefore wrong no more often than α.

use std::{collections::VecDeque, ops::Add};

use libm::lgamma;
use serde::Serialize;

/// How many requests were answered, and how many of those answers were failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All answers, failures among them.
    pub answers: u64,
    /// Those that failed: at most `answers`.
    pub failures: u64,
}

impl Counts {
    /// Counts one more answer.
    pub fn record(&mut self, failed: bool) {
        self.answers += 1;
        self.failures += u64::from(failed);
    }

    /// The observed failure rate, between 0 and 1; `None` before the first answer.
    pub fn rate(self) -> Option<f64> {
        (self.answers > 0).then(|| real(self.failures) / real(self.answers))
    }

    fn successes(self) -> u64 {
        self.answers - self.failures
    }
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { answers: self.answers + other.answers, failures: self.failures + other.failures }
    }
}

#[expect(clippy::cast_precision_loss, reason = "no run counts up to 2^53")]
fn real(count: u64) -> f64 {
    count as f64
}

/// The two groups that a [`SequentialTest`] compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The one to compare with: a rollout's stable release.
    Control,
    /// The one under suspicion: a rollout's canary.
    Treatment,
}

impl Group {
    fn other(self) -> Self {
        match self {
            Self::Control => Self::Treatment,
            Self::Treatment => Self::Control,
        }
    }
}

/// A pair of values, one a group.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct PerGroup<T> {
    control: T,
    treatment: T,
}

impl<T> PerGroup<T> {
    fn of(&self, group: Group) -> &T {
        match group {
            Group::Control => &self.control,
            Group::Treatment => &self.treatment,
        }
    }

    fn of_mut(&mut self, group: Group) -> &mut T {
        match group {
            Group::Control => &mut self.control,
            Group::Treatment => &mut self.treatment,
        }
    }
}

/// A one-sided sequential test of two proportions: is the treatment's failure rate greater than the
/// control's?
///
/// The method is that of R. Turner, A. Ly and P. Grünwald, "Generic E-variables for exact sequential k-sample
/// tests that allow for optional stopping" (arXiv 2106.02693; J. Statistical Planning and Inference 230,
/// 2024). Answers form blocks. A block of n₁ answers of the control and n₂ of the treatment has the e-value
///
/// ```text
/// e = ∏ p(y; θ₁)/p(y; θ₀) over the control's × ∏ p(y; θ₂)/p(y; θ₀) over the treatment's,
/// θ₀ = (n₁θ₁ + n₂θ₂)/(n₁ + n₂),
/// ```
///
/// where y is 1 for a failure and 0 for a success, and p(1; θ) = θ, p(0; θ) = 1 − θ. The plug-in estimates θ₁
/// and θ₂ are the posterior means given the blocks before, under the priors Beta(0.18, 0.18) of the paper.
/// Where θ₂ is not above θ₁, the block speaks for nothing and has the e-value 1.
///
/// Whatever failure rate the groups share, a block's e-value has an expectation of at most 1 (as the paper
/// proves, by the inequality of the arithmetic and the geometric mean). As θ₂ > θ₁, the factors of the
/// treatment's answers rise with its failure rate and those of the control's fall with its own, so the same
/// holds for every pair of rates with the treatment's not above the control's. The product over the blocks is
/// then a test supermartingale under that whole hypothesis, and by Ville's inequality rejecting it once the
/// product has ever reached 1/α is wrong with probability at most α.
///
/// # How answers become blocks
///
/// An answer goes into the oldest open block that lacks one of its group, else into a new one. A block's
/// sizes are chosen when it opens: one answer of the group that was rarer among the last 64 answers and, of
/// the other, about as many as came to each of those. When 8 blocks are open, an answer that fits into none
/// is left out. Blocks begin with the first answer of the second group; what one group answered alone before
/// only feeds the estimates.
///
/// So it is settled before an answer is looked at whether it counts, in which block, and of what sizes. As
/// both groups fill the blocks in the same order, all that has been seen when a block opens belongs to
/// earlier blocks: given those, its answers are as fresh as any, and the argument above holds block by block.
/// It asks that each answer fails with the rate of its group whatever came before, and nothing of how
/// requests are routed: the order in which the groups answer may depend on what failed before, as when
/// somebody scales the canary because of what they saw.
///
/// The cap, and beginning with the second group, keep together what happened together: an outage that hits
/// both groups is not taken for the treatment's because it is compared with the control's better days.
#[derive(Clone, Debug, Default)]
pub struct SequentialTest {
    /// What the plug-in estimates rest on: completed blocks, and answers before both groups had answered.
    past: PerGroup<Counts>,
    seen: PerGroup<bool>,
    recent: RecentGroups,
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
    pub fn observe(&mut self, group: Group, failed: bool) {
        *self.seen.of_mut(group) = true;
        if !self.seen.of(group.other()) {
            self.past.of_mut(group).record(failed);
            return;
        }
        if let Some(block) = self.block_for(group) {
            block.seen.of_mut(group).record(failed);
        }
        self.recent.push(group);
        if let Some(block) = self.open.pop_front_if(|block| block.is_complete()) {
            self.ln_e_value += block.ln_e_value(posterior_means(self.past));
            self.peak_ln_e_value = self.peak_ln_e_value.max(self.ln_e_value);
            self.past.control = self.past.control + block.seen.control;
            self.past.treatment = self.past.treatment + block.seen.treatment;
        }
    }

    fn block_for(&mut self, group: Group) -> Option<&mut Block> {
        let index = match self.open.iter().position(|block| block.lacks(group)) {
            Some(index) => index,
            None if self.open.len() < MAX_OPEN_BLOCKS => {
                self.open.push_back(Block { sizes: self.recent.block_sizes(), seen: PerGroup::default() });
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

    /// Whether the e-value has ever reached 1/α: whether the hypothesis that the treatment fails no more
    /// often than the control is rejected at the level `alpha`.
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

/// Which groups the last 64 answers came from.
#[derive(Clone, Copy, Debug, Default)]
struct RecentGroups {
    /// The newest is the lowest bit; 1 is the treatment.
    treatments: u64,
    known: u32,
}

impl RecentGroups {
    fn push(&mut self, group: Group) {
        self.treatments = self.treatments << 1 | u64::from(group == Group::Treatment);
        self.known = (self.known + 1).min(u64::BITS);
    }

    /// The sizes of the next block. Small blocks, as the paper advises: the estimates improve with every one.
    fn block_sizes(self) -> PerGroup<u64> {
        let treatment = u64::from(self.treatments.count_ones());
        let control = u64::from(self.known) - treatment;
        // One more of each, for a group that has not answered lately will again.
        let (control, treatment) = (control + 1, treatment + 1);
        let rounded = |more: u64, fewer: u64| (more + fewer / 2) / fewer;
        PerGroup {
            control: rounded(control, treatment).max(1),
            treatment: rounded(treatment, control).max(1),
        }
    }
}

/// Answers of both groups that are compared with each other.
#[derive(Clone, Copy, Debug)]
struct Block {
    sizes: PerGroup<u64>,
    seen: PerGroup<Counts>,
}

impl Block {
    fn lacks(&self, group: Group) -> bool {
        self.seen.of(group).answers < *self.sizes.of(group)
    }

    fn is_complete(&self) -> bool {
        !self.lacks(Group::Control) && !self.lacks(Group::Treatment)
    }

    /// The logarithm of the e-value of a complete block, given the estimates of both groups' failure rates.
    fn ln_e_value(&self, estimates: PerGroup<f64>) -> f64 {
        if estimates.treatment <= estimates.control {
            return 0.0;
        }
        let (control, treatment) = (real(self.sizes.control), real(self.sizes.treatment));
        let pooled = (control * estimates.control + treatment * estimates.treatment) / (control + treatment);
        let ln_ratio = |seen: Counts, estimate: f64| {
            real(seen.failures) * (estimate / pooled).ln()
                + real(seen.successes()) * ((1.0 - estimate) / (1.0 - pooled)).ln()
        };
        ln_ratio(self.seen.control, estimates.control) + ln_ratio(self.seen.treatment, estimates.treatment)
    }
}

/// The means of Beta(0.18 + failures, 0.18 + successes). 0.18 is the paper's choice.
fn posterior_means(past: PerGroup<Counts>) -> PerGroup<f64> {
    const PRIOR: f64 = 0.18;
    let mean = |seen: Counts| (PRIOR + real(seen.failures)) / (2.0 * PRIOR + real(seen.answers));
    PerGroup { control: mean(past.control), treatment: mean(past.treatment) }
}

/// Between which rates a failure rate lies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// The lower bound, at least 0.
    pub lower: f64,
    /// The upper bound, at most 1.
    pub upper: f64,
}

/// A confidence sequence for one failure rate: intervals, one after each answer, all of which hold the true
/// rate with probability at least 1 − α, together.
///
/// Robbins' mixture ("Statistical methods related to the law of the iterated logarithm", Annals of
/// Mathematical Statistics 41, 1970; with a Beta mixture, the beta-binomial confidence sequence). After k
/// failures in n answers the interval is
///
/// ```text
/// { p : B(a + k, b + n − k) / B(a, b) / (p^k (1 − p)^(n − k)) < 1/α },
/// ```
///
/// where B is the beta function. At the true p the ratio is the likelihood of the answers under a mixture of
/// rates over that under the true one, a martingale that starts at 1, so Ville's inequality applies.
///
/// # The prior
///
/// The mixture is Beta(a = ½, b = 20). The guarantee holds for any; the choice decides for which rates the
/// interval is narrow soon. This one puts its mass on rates of a few per cent and below, at which it shortens
/// promotion, but still leaves enough on high ones to see a broken release at once. Answers until the upper
/// bound is at most 1 % at α = 0.05, with 0 and with 1 failure on the way, and failures in a row until the
/// lower bound passes 1 % at α = 0.025:
///
/// | a, b | 0 failures | 1 failure | in a row |
/// |---|---|---|---|
/// | ½, ½ (Jeffreys) | 680 | 998 | 1 |
/// | 1, 1 (uniform) | 984 | 1262 | 1 |
/// | **½, 20** | **457** | **755** | **3** |
/// | ½, 50 | 409 | 705 | 4 |
/// | ½, 200 | 349 | 654 | 9 |
///
/// No method gets below 298, where 0.99ⁿ falls below 0.05.
#[derive(Clone, Copy, Debug)]
pub struct ConfidenceSequence {
    ln_threshold: f64,
    ln_prior_beta: f64,
}

const PRIOR_FAILURES: f64 = 0.5;
const PRIOR_SUCCESSES: f64 = 20.0;

impl ConfidenceSequence {
    /// The confidence sequence that ever misses the true rate with probability at most `alpha`, which lies
    /// strictly between 0 and 1.
    pub fn new(alpha: f64) -> Self {
        Self { ln_threshold: -alpha.ln(), ln_prior_beta: ln_beta(PRIOR_FAILURES, PRIOR_SUCCESSES) }
    }

    /// The interval after these answers.
    pub fn interval(self, counts: Counts) -> Interval {
        let Some(estimate) = counts.rate() else { return Interval { lower: 0.0, upper: 1.0 } };
        let ln_mixture = self.ln_mixture(counts);
        // The ratio is smallest at the estimate and rises towards both ends.
        let boundary = |mut outside: f64| {
            let mut inside = estimate;
            for _ in 0..f64::MANTISSA_DIGITS {
                let middle = f64::midpoint(inside, outside);
                if ln_mixture - ln_likelihood(counts, middle) < self.ln_threshold {
                    inside = middle;
                } else {
                    outside = middle;
                }
            }
            outside
        };
        Interval {
            lower: if counts.failures == 0 { 0.0 } else { boundary(0.0) },
            upper: if counts.successes() == 0 { 1.0 } else { boundary(1.0) },
        }
    }

    /// Whether the whole interval lies above `rate`.
    pub fn is_above(self, counts: Counts, rate: f64) -> bool {
        counts.rate().is_some_and(|estimate| estimate > rate) && self.excludes(counts, rate)
    }

    /// Whether the whole interval lies below `rate`.
    pub fn is_below(self, counts: Counts, rate: f64) -> bool {
        counts.rate().is_some_and(|estimate| estimate < rate) && self.excludes(counts, rate)
    }

    fn excludes(self, counts: Counts, rate: f64) -> bool {
        self.ln_mixture(counts) - ln_likelihood(counts, rate) >= self.ln_threshold
    }

    /// The logarithm of the probability of the answers, in their order, under the mixture.
    fn ln_mixture(self, counts: Counts) -> f64 {
        ln_beta(PRIOR_FAILURES + real(counts.failures), PRIOR_SUCCESSES + real(counts.successes()))
            - self.ln_prior_beta
    }

    /// How many more answers it takes until the whole interval lies below `rate`, if all of them succeed;
    /// `None` for more than `limit`.
    pub fn successes_until_below(self, counts: Counts, rate: f64, limit: u64) -> Option<u64> {
        let is_below_after = |more| self.is_below(Counts { answers: counts.answers + more, ..counts }, rate);
        if !is_below_after(limit) {
            return None;
        }
        // With every success the ratio falls while the estimate is above the rate, and rises from then on:
        // once the interval lies below, it stays there.
        let (mut fewest, mut enough) = (0, limit);
        while fewest < enough {
            let middle = u64::midpoint(fewest, enough);
            if is_below_after(middle) {
                enough = middle;
            } else {
                fewest = middle + 1;
            }
        }
        Some(enough)
    }
}

fn ln_beta(a: f64, b: f64) -> f64 {
    lgamma(a) + lgamma(b) - lgamma(a + b)
}

/// The logarithm of the probability of the answers, in their order, at the failure rate `rate`.
fn ln_likelihood(counts: Counts, rate: f64) -> f64 {
    let of = |count: u64, ln_probability: f64| if count == 0 { 0.0 } else { real(count) * ln_probability };
    of(counts.failures, rate.ln()) + of(counts.successes(), (-rate).ln_1p())
}

#[cfg(test)]
mod tests {
    use super::*;
    use Group::{Control, Treatment};

    fn counts(failures: u64, answers: u64) -> Counts {
        Counts { answers, failures }
    }

    #[track_caller]
    fn assert_close(value: f64, expected: f64) {
        assert!((value - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{value} is not {expected}");
    }

    #[test]
    fn an_e_value_is_that_of_the_formula() {
        let mut test = SequentialTest::new();
        let mut expected = 0.0;
        // What one group answers alone only feeds the estimates: (0.18 + 0)/(0.36 + 1) for the control.
        test.observe(Control, false);
        assert_close(test.ln_e_value(), expected);

        // The first block, one of each: the estimates 0.18/1.36 and 1/2.
        let pooled: f64 = f64::midpoint(0.18 / 1.36, 0.5);
        test.observe(Treatment, true);
        test.observe(Control, false);
        expected += (0.5 / pooled).ln() + (1.18 / 1.36 / (1.0 - pooled)).ln();
        assert_close(test.ln_e_value(), expected);

        // One of each again: 0.18/2.36 and 1.18/1.36, and an outcome that speaks against a difference. Before
        // it is complete, the next answer of the control opens a block of (2 + 1)/(1 + 1), so two, and one.
        let pooled: f64 = f64::midpoint(0.18 / 2.36, 1.18 / 1.36);
        test.observe(Control, true);
        test.observe(Control, false);
        assert_close(test.ln_e_value(), expected);
        test.observe(Treatment, false);
        expected += (0.18 / 2.36 / pooled).ln() + (0.18 / 1.36 / (1.0 - pooled)).ln();
        assert_close(test.ln_e_value(), expected);

        // Two of the control and one of the treatment: 1.18/3.36 and 1.18/2.36.
        let pooled: f64 = (2.0 * 1.18 / 3.36 + 1.18 / 2.36) / 3.0;
        test.observe(Treatment, true);
        test.observe(Control, false);
        expected += 2.0 * (2.18 / 3.36 / (1.0 - pooled)).ln() + (1.18 / 2.36 / pooled).ln();
        assert_close(test.ln_e_value(), expected);
    }

    #[test]
    fn the_test_rejects_for_good_once_the_e_value_has_reached_one_over_alpha() {
        let mut test = SequentialTest::new();
        for failed in [true; 6].into_iter().chain([false; 100]) {
            test.observe(Control, !failed);
            test.observe(Treatment, failed);
        }
        assert!(test.ln_e_value() < 0.0);
        assert!(test.p_value() < 0.01);
        assert!(test.rejects(0.01) && !test.rejects(test.p_value() / 2.0));
    }

    #[test]
    fn a_treatment_that_fails_less_is_never_rejected() {
        let mut test = SequentialTest::new();
        for _ in 0..1000 {
            test.observe(Control, true);
            test.observe(Treatment, false);
        }
        assert_close(test.p_value(), 1.0);
    }

    fn binomial(n: u64, k: u64, rate: f64) -> f64 {
        let coefficient: f64 = (0..k).map(|i| real(n - i) / real(i + 1)).product();
        coefficient * rate.powf(real(k)) * (1.0 - rate).powf(real(n - k))
    }

    /// The expectation of a block's e-value, over all its outcomes.
    fn expectation(sizes: PerGroup<u64>, estimates: PerGroup<f64>, rates: PerGroup<f64>) -> f64 {
        let mut sum = 0.0;
        for control in 0..=sizes.control {
            for treatment in 0..=sizes.treatment {
                let seen = PerGroup {
                    control: counts(control, sizes.control),
                    treatment: counts(treatment, sizes.treatment),
                };
                sum += binomial(sizes.control, control, rates.control)
                    * binomial(sizes.treatment, treatment, rates.treatment)
                    * Block { sizes, seen }.ln_e_value(estimates).exp();
            }
        }
        sum
    }

    /// All sizes that a block can have.
    fn block_sizes() -> impl Iterator<Item = PerGroup<u64>> {
        let rare = |n| [PerGroup { control: n, treatment: 1 }, PerGroup { control: 1, treatment: n }];
        (1..=65).flat_map(rare)
    }

    const GRID: [f64; 9] = [0.0, 0.000_1, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 1.0];
    const ESTIMATES: [f64; 6] = [0.000_01, 0.001, 0.02, 0.3, 0.7, 0.999];

    #[test]
    fn a_block_has_an_expectation_of_at_most_one_while_the_treatment_is_no_worse() {
        for sizes in block_sizes() {
            for (control, treatment) in ESTIMATES.iter().flat_map(|a| ESTIMATES.iter().map(|b| (*a, *b))) {
                let estimates = PerGroup { control, treatment };
                for (i, control) in GRID.into_iter().enumerate() {
                    for treatment in GRID.into_iter().take(i + 1) {
                        let rates = PerGroup { control, treatment };
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
            let rates = PerGroup { control: 0.02, treatment: 0.3 };
            assert!(expectation(sizes, rates, rates) > 1.01, "{sizes:?}");
        }
    }

    #[test]
    fn blocks_follow_the_share_of_the_groups() {
        for (control, treatment, expected) in
            [(3, 1, (3, 1)), (1, 1, (1, 1)), (1, 3, (1, 3)), (15, 1, (12, 1))]
        {
            let mut recent = RecentGroups::default();
            for _ in 0..64 {
                (0..control).for_each(|_| recent.push(Control));
                (0..treatment).for_each(|_| recent.push(Treatment));
            }
            let sizes = recent.block_sizes();
            assert_eq!((sizes.control, sizes.treatment), expected);
        }
        let mut lonely = RecentGroups::default();
        (0..1000).for_each(|_| lonely.push(Control));
        assert_eq!(lonely.block_sizes(), PerGroup { control: 65, treatment: 1 });
    }

    #[test]
    fn what_one_group_answers_alone_is_left_out_and_takes_no_memory() {
        let mut test = SequentialTest::new();
        test.observe(Control, false);
        test.observe(Treatment, false);
        for _ in 0..100_000 {
            test.observe(Control, false);
        }
        assert!(test.open.len() <= MAX_OPEN_BLOCKS);
        assert!(test.past.control.answers < 1000);
    }

    /// A routing that knows all that has been seen, and decides from it which group answers next.
    type Routing = fn(&[(Group, bool)]) -> Group;

    fn tree(
        routing: Routing,
        seen: &mut Vec<(Group, bool)>,
        test: &SequentialTest,
        rate: f64,
        value: &dyn Fn(&SequentialTest) -> f64,
    ) -> f64 {
        const DEPTH: usize = 16;
        if seen.len() == DEPTH {
            return value(test);
        }
        let group = routing(seen);
        let mut sum = 0.0;
        for (failed, probability) in [(true, rate), (false, 1.0 - rate)] {
            let mut test = test.clone();
            test.observe(group, failed);
            seen.push((group, failed));
            sum += probability * tree(routing, seen, &test, rate, value);
            seen.pop();
        }
        sum
    }

    fn over_all_outcomes(routing: Routing, rate: f64, value: impl Fn(&SequentialTest) -> f64) -> f64 {
        tree(routing, &mut Vec::new(), &SequentialTest::new(), rate, &value)
    }

    #[test]
    fn the_e_value_of_equal_groups_has_an_expectation_of_at_most_one() {
        let routings: [Routing; 4] = [
            |seen| if seen.len() % 2 == 0 { Control } else { Treatment },
            |seen| if seen.len() % 4 == 3 { Treatment } else { Control },
            |seen| if seen.len() % 5 == 2 { Control } else { Treatment },
            |seen| if seen.len() % 8 < 5 { Control } else { Treatment },
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
            // The treatment answers after a failure, else the control; and the other way round.
            |seen| if seen.last().is_some_and(|(_, failed)| *failed) { Treatment } else { Control },
            |seen| if seen.last().is_none_or(|(_, failed)| *failed) { Control } else { Treatment },
            // A group answers until it has failed.
            |seen| match seen.last() {
                Some((group, failed)) => {
                    if *failed {
                        group.other()
                    } else {
                        *group
                    }
                }
                None => Treatment,
            },
            // The treatment answers as long as it has failed more than the control.
            |seen| {
                let failures = |of| seen.iter().filter(|(group, failed)| *group == of && *failed).count();
                if failures(Treatment) > failures(Control) || seen.len() == 1 { Treatment } else { Control }
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

    #[test]
    fn an_interval_is_that_of_the_formula() {
        let sequence = ConfidenceSequence::new(0.05);
        assert_eq!(sequence.interval(counts(0, 0)), Interval { lower: 0.0, upper: 1.0 });

        // One failure: (½ / 20½) / p < 20.
        let Interval { lower, upper } = sequence.interval(counts(1, 1));
        assert_close(lower, 0.5 / 20.5 / 20.0);
        assert_close(upper, 1.0);

        // One success: (20 / 20½) / (1 − p) < 20.
        let Interval { lower, upper } = sequence.interval(counts(0, 1));
        assert_close(lower, 0.0);
        assert_close(upper, 1.0 - 20.0 / 20.5 / 20.0);

        // A failure and a success: (½ × 20) / (20½ × 21½) / (p (1 − p)) < 20, a quadratic equation.
        let Interval { lower, upper } = sequence.interval(counts(1, 2));
        let product: f64 = 0.5 * 20.0 / (20.5 * 21.5) / 20.0;
        let root = (0.25 - product).sqrt();
        assert_close(lower, 0.5 - root);
        assert_close(upper, 0.5 + root);
    }

    #[test]
    fn the_mixture_is_the_product_of_its_predictions() {
        let mut seen = counts(0, 0);
        let mut ln_product = 0.0;
        for i in 0..100_000 {
            let failed = i % 7 == 0;
            let probability = (0.5 + real(seen.failures)) / (20.5 + real(seen.answers));
            ln_product += if failed { probability.ln() } else { (1.0 - probability).ln() };
            seen.record(failed);
        }
        assert_close(ConfidenceSequence::new(0.05).ln_mixture(seen), ln_product);
    }

    #[test]
    fn bounds_agree_with_the_questions_about_them() {
        for alpha in [0.3, 0.05, 0.001] {
            let sequence = ConfidenceSequence::new(alpha);
            for answers in [1, 2, 10, 457, 5000, 1_000_000] {
                for failures in [0, 1, answers / 100, answers / 2, answers - 1, answers] {
                    let seen = counts(failures, answers);
                    let Interval { lower, upper } = sequence.interval(seen);
                    let estimate = seen.rate().unwrap();
                    assert!(lower <= estimate && estimate <= upper);
                    assert!(
                        !sequence.is_above(seen, lower * 1.000_001) && !sequence.is_below(seen, upper - 1e-6)
                    );
                    assert!(lower < 1e-300 || sequence.is_above(seen, lower * 0.999_999));
                    assert!(upper + 1e-6 >= 1.0 || sequence.is_below(seen, upper + 1e-6));
                }
            }
        }
    }

    /// The table in the documentation of [`ConfidenceSequence`].
    #[test]
    fn the_prior_bounds_an_always_succeeding_release_at_one_per_cent_after_457_answers() {
        let promotion = ConfidenceSequence::new(0.05);
        let needed = |seen, rate| promotion.successes_until_below(seen, rate, 100_000);
        assert_eq!(needed(counts(0, 0), 0.01), Some(457));
        assert_eq!(needed(counts(1, 1), 0.01), Some(754));
        assert_eq!(needed(counts(0, 456), 0.01), Some(1));
        assert_eq!(needed(counts(0, 457), 0.01), Some(0));
        assert_eq!(needed(counts(2000, 2000), 0.01), None);

        let roll_back = ConfidenceSequence::new(0.025);
        assert!(!roll_back.is_above(counts(2, 2), 0.01) && roll_back.is_above(counts(3, 3), 0.01));
    }
}
