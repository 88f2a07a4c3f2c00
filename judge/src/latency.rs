//! Whether the canary's answers are slower than stable's, without a threshold that somebody must know beforehand.
//!
//! # The tables
//!
//! The thresholds are fixed: [`THRESHOLDS`], from 1 ms to 63 s. For each threshold `t`, a batch has a table: of the good
//! answers of both releases, how many took longer. With a tolerance `d`, that is longer than `t` for stable, and longer than
//! `(1 + d)·t` for the canary. The table goes into the test of [`crate::odds`], as if slower answers were failures.
//!
//! The null hypothesis: at each moment, the canary's latency is at most `1 + d` times stable's, in the usual stochastic
//! order. So at each moment, and for each `t`, P(canary > (1 + d)·t) ≤ P(stable > t). That is all that the proof for failures
//! needs: given the sizes and the number of slower answers, the number of the canary's is at most hypergeometric, in the
//! likelihood ratio order. So for each threshold, the product over the batches is a test supermartingale, whatever the
//! distribution is, and however it changes. All thresholds have the same batches. So their products are supermartingales in
//! one filtration, and so is their mean.
//!
//! # Failures
//!
//! How soon a failure comes says nothing about the speed: a refusal comes at once, and a time-out after the limit of the
//! client. There are two ways to leave its time out, and each has a trap:
//!
//! - Only the good answers are compared. Then a canary that answers late what stable fails looks slower.
//! - Each failure counts as slower than every threshold, because the good answer never came. Then a canary that fails more
//!   looks slower.
//!
//! So both tests are made, and the evidence is the smaller of the two. The canary is found slower only if its good answers
//! are slower, and failures do not make up for that. If either null hypothesis is true, its own test bounds the error. (The
//! second is exact whatever fails. The first also needs that within a batch, the releases' chances of a good answer keep
//! their ratio.) An answer that counts as a failure only because it was late has a time, and is a good answer here.
//!
//! # Strata
//!
//! Requests of different kinds are never in one table: another mix of paths has other latencies. Each stratum has batches of
//! its own. Their tables go into the same products, one after the other (the odds ratio is then common to the strata). That is
//! valid, because their requests are disjoint, and the length of a batch is fixed when it begins.

mod scraped;

use std::{collections::HashMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    Counts, Outcome, Release, Request,
    batch::BatchLength,
    odds::{GREATER, Table, ln_sum},
    real,
    verdict::Percentiles,
};

pub use self::scraped::Histogram;
pub(crate) use self::scraped::ScrapedLatencies;

/// The thresholds in seconds: five in each power of ten, from 1 ms to 63 s.
pub(crate) const THRESHOLDS: [f64; 25] = [
    0.001, 0.001_6, 0.002_5, 0.004, 0.006_3, 0.01, 0.016, 0.025, 0.04, 0.063, 0.1, 0.16, 0.25, 0.4, 0.63,
    1.0, 1.6, 2.5, 4.0, 6.3, 10.0, 16.0, 25.0, 40.0, 63.0,
];

/// A batch has about this many answers of the release that answers less. That is more than a batch for failures has: there
/// are many more slower answers than failures, and a longer batch has more information about a small difference.
const ANSWERS: f64 = 8.0;
/// The first batches of a stratum have fewer, so that a canary that is much slower is found soon.
const FIRST_ANSWERS: f64 = 2.0;
/// More requests than any batch has, and so few that their sums are numbers.
const MOST_REQUESTS: u64 = 1 << 53;
/// The maximum number of strata. Requests of later ones are not compared by their latency.
const MOST_STRATA: usize = 64;

/// The comparison of both releases by the latencies of single requests.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Latencies {
    /// The canary may take this many times as long as stable.
    factor: f64,
    /// The open batch of each stratum. The name is empty if requests are not divided.
    strata: HashMap<Box<str>, Stratum>,
    /// Whether requests are divided. Then those that name no stratum are not compared: they may be of any kind.
    is_divided: bool,
    slower: Slower,
    distributions: [Distribution; 2],
}

/// The open batch of a stratum.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Stratum {
    length: BatchLength,
    answers: f64,
    /// The requests in the open batch so far, and the number at which it is complete.
    requests: (u64, u64),
    /// The requests of stable and of the canary in the open batch, failures too.
    sizes: [u64; 2],
    /// The good answers of stable and of the canary: how many took longer than so many of the thresholds, from none to all.
    timed: [Vec<u64>; 2],
    /// The failures of both.
    failed: [u64; 2],
}

impl Stratum {
    fn new() -> Self {
        let length = BatchLength::UNKNOWN;
        let timed = || vec![0; THRESHOLDS.len() + 1];
        Self {
            length,
            answers: FIRST_ANSWERS,
            requests: (0, length.requests_with(FIRST_ANSWERS)),
            sizes: [0, 0],
            timed: [timed(), timed()],
            failed: [0, 0],
        }
    }

    /// Ends the batch. The next one has a length that depends on the sizes of earlier batches only.
    fn end_batch(&mut self, slower: &mut Slower) {
        slower.observe_batch(&self.timed, std::mem::take(&mut self.failed));
        self.timed.iter_mut().flatten().for_each(|number| *number = 0);
        let [stable, canary] = std::mem::take(&mut self.sizes);
        self.length.update_sizes(stable, canary);
        self.answers = (self.answers * 2.0).min(ANSWERS);
        self.requests = (0, self.length.requests_with(self.answers));
    }
}

impl Latencies {
    /// Without answers. The canary may take `factor` times as long as stable.
    pub(crate) fn new(factor: f64) -> Self {
        Self {
            factor,
            strata: HashMap::new(),
            is_divided: false,
            slower: Slower::new(THRESHOLDS.len()),
            distributions: Default::default(),
        }
    }

    /// Adds the next request in the order of sending. True if this has completed a batch.
    pub(crate) fn observe(&mut self, request: &Request<'_>) -> bool {
        self.is_divided |= request.stratum.is_some();
        if self.is_divided && request.stratum.is_none() {
            return false;
        }
        let name = request.stratum.unwrap_or_default();
        if !self.strata.contains_key(name) {
            if self.strata.len() == MOST_STRATA || request.latency.is_none() {
                return false;
            }
            self.strata.insert(name.into(), Stratum::new());
        }
        let Some(stratum) = self.strata.get_mut(name) else { return false };
        if let Some(release) = request.release {
            let side = side(release);
            stratum.sizes[side] += 1;
            if request.outcome == Outcome::Failure {
                stratum.failed[side] += 1;
            } else if let Some(latency) = request.latency {
                let factor = if release == Release::Canary { self.factor } else { 1.0 };
                let seconds = latency.as_secs_f64();
                let exceeded = THRESHOLDS.partition_point(|threshold| seconds > threshold * factor);
                stratum.timed[side][exceeded] += 1;
                self.distributions[side].add(latency);
            }
        }
        stratum.requests.0 += 1;
        let is_complete = stratum.requests.0 >= stratum.requests.1;
        if is_complete {
            stratum.end_batch(&mut self.slower);
        }
        is_complete
    }

    /// Ends the open batches.
    pub(crate) fn end_batches(&mut self) {
        let mut strata: Vec<_> = self.strata.iter_mut().collect();
        strata.sort_unstable_by_key(|(name, _)| *name); // sums of floating-point numbers depend on their order
        for (_, stratum) in strata {
            stratum.end_batch(&mut self.slower);
        }
    }

    /// Whether it can be what a judge has written: all that is counted by threshold is there.
    pub(crate) fn is_sound(&self) -> bool {
        let is_possible = |number: &u64| *number < MOST_REQUESTS;
        let is_complete =
            |timed: &Vec<u64>| timed.len() == THRESHOLDS.len() + 1 && timed.iter().all(is_possible);
        self.factor.is_finite()
            && self.slower.thresholds.len() == THRESHOLDS.len()
            && self.strata.values().all(|stratum| {
                stratum.timed.iter().all(is_complete) && stratum.failed.iter().all(is_possible)
            })
            && self.distributions.iter().all(|distribution| is_possible(&distribution.count))
    }

    /// The natural logarithm of the greatest e-value so far; at least 0.
    pub(crate) fn peak_ln_e_value(&self) -> f64 {
        self.slower.peak_ln_e_value()
    }

    /// The number of the canary's answers that were compared.
    pub(crate) fn compared(&self) -> u64 {
        self.slower.compared()
    }

    /// The latencies of the good answers of a release.
    pub(crate) fn percentiles(&self, release: Release) -> Percentiles {
        self.distributions[side(release)].percentiles()
    }

    /// Where the difference is clearest.
    pub(crate) fn clearest(&self) -> Option<crate::verdict::Slower> {
        let (index, shares) = self.slower.clearest()?;
        let milliseconds = THRESHOLDS[index] * 1e3;
        Some(shares.at(milliseconds, milliseconds * self.factor))
    }
}

fn side(release: Release) -> usize {
    usize::from(release == Release::Canary)
}

/// The e-processes of the null hypotheses that the canary is not slower: of the good answers, and with failures as the slowest
/// ones. Each is the mean over all thresholds, and for each over the alternatives [`GREATER`].
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Slower {
    thresholds: Vec<AtThreshold>,
    peaks: [f64; 2],
    #[serde(skip)]
    ratios: Ratios,
}

/// The evidence at one threshold.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
struct AtThreshold {
    /// For both e-processes, for each alternative: ln of the product of likelihood ratios so far.
    ln_products: [LnRatios; 2],
    shares: Shares,
}

/// How many good answers were slower, in batches in which both releases had some.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
struct Shares {
    /// The canary's answers, and those of them that were slower.
    canary: (u64, u64),
    /// The number that the canary would have with stable's share of each batch: another mix of strata, or of times, makes no
    /// difference.
    at_stable: f64,
}

impl Shares {
    fn at(self, threshold_ms: f64, canary_threshold_ms: f64) -> crate::verdict::Slower {
        let (answers, slower) = (real(self.canary.0), real(self.canary.1));
        crate::verdict::Slower {
            threshold_ms,
            canary_threshold_ms,
            canary_share: slower / answers,
            stable_share: self.at_stable / answers,
        }
    }
}

impl Slower {
    /// Without batches, for so many thresholds.
    pub(crate) fn new(thresholds: usize) -> Self {
        Self {
            thresholds: vec![AtThreshold::default(); thresholds],
            peaks: [0.0; 2],
            ratios: Ratios::default(),
        }
    }

    /// Adds a batch of single requests: for each side, how many good answers took longer than so many of the thresholds, and
    /// the number of failures.
    fn observe_batch(&mut self, [stable, canary]: &[Vec<u64>; 2], failed: [u64; 2]) {
        let sum = |timed: &[u64]| timed.iter().sum::<u64>();
        let (of_stable, of_canary) = (sum(stable), sum(canary));
        if of_stable + of_canary == 0 {
            return;
        }
        let (mut slower_stable, mut slower_canary) = (of_stable, of_canary);
        for index in 0..self.thresholds.len() {
            slower_stable -= stable[index];
            slower_canary -= canary[index];
            let counts = |requests, failures| Counts { requests, failures, slow: 0 };
            let good = Table {
                reference: counts(of_stable, slower_stable),
                suspect: counts(of_canary, slower_canary),
            };
            let all = Table {
                reference: good.reference + Counts::all_failed(failed[0]),
                suspect: good.suspect + Counts::all_failed(failed[1]),
            };
            self.observe(index, good, all, 0.0);
        }
        self.end_batch();
    }

    /// Adds the tables of one threshold: of the good answers, and with all failures as slower ones. Call [`Self::end_batch`]
    /// after those of all thresholds. `moved` is as in [`crate::odds`]: the canary's share of the requests moved.
    fn observe(&mut self, index: usize, good: Table, all: Table, moved: f64) {
        let at = &mut self.thresholds[index];
        let Table { reference, suspect } = good;
        if reference.requests > 0 {
            at.shares.canary.0 += suspect.requests;
            at.shares.canary.1 += suspect.failures;
            at.shares.at_stable +=
                real(suspect.requests) * real(reference.failures) / real(reference.requests);
        }
        let mut of = |table: Table| {
            if moved > 0.0 { ln_ratios_of_moved(table, moved) } else { self.ratios.of(table) }
        };
        let of_good = of(good);
        let of_all = if good == all { of_good } else { of(all) };
        for (ln_products, ln_ratios) in at.ln_products.iter_mut().zip([of_good, of_all]) {
            for (ln_product, ln_ratio) in ln_products.iter_mut().zip(ln_ratios.unwrap_or_default()) {
                *ln_product += ln_ratio;
            }
        }
    }

    fn end_batch(&mut self) {
        for test in 0..2 {
            // the mean of all products
            let products = self.thresholds.iter().flat_map(|at| at.ln_products[test]);
            let ln_e_value = ln_sum(products) - ((self.thresholds.len() * GREATER.len()) as f64).ln();
            self.peaks[test] = self.peaks[test].max(ln_e_value);
        }
    }

    /// The natural logarithm of the smaller one of both greatest e-values so far.
    fn peak_ln_e_value(&self) -> f64 {
        self.peaks[0].min(self.peaks[1])
    }

    /// The number of the canary's answers in all batches.
    fn compared(&self) -> u64 {
        self.thresholds.first().map_or(0, |at| at.shares.canary.0)
    }

    /// The threshold with the most evidence, if any table has had information.
    fn clearest(&self) -> Option<(usize, Shares)> {
        let evidence = |at: &AtThreshold| {
            at.ln_products.iter().map(|of| ln_sum(of.iter().copied())).fold(f64::INFINITY, f64::min)
        };
        let is_informative = |at: &AtThreshold| at.ln_products[0].iter().any(|ln_product| *ln_product != 0.0);
        let informative = self.thresholds.iter().enumerate().filter(|(_, at)| is_informative(at));
        let clearest = informative.max_by(|(_, one), (_, other)| evidence(one).total_cmp(&evidence(other)));
        clearest.map(|(index, at)| (index, at.shares))
    }
}

/// The logarithms of the likelihood ratios of a table, one for each alternative.
type LnRatios = [f64; GREATER.len()];

/// The ratios if the canary's share moved up within the batch, so that the null hypothesis is wider. An alternative that it
/// contains is left as it is.
fn ln_ratios_of_moved(table: Table, moved: f64) -> Option<LnRatios> {
    table.is_informative().then(|| {
        let null = table.ln_probability(moved);
        GREATER.map(|odds| if odds.ln() > moved { table.ln_probability(odds.ln()) - null } else { 0.0 })
    })
}

/// Likelihood ratios that were computed before. Most batches have tables of the same few sizes.
#[derive(Clone, Debug, Default)]
struct Ratios {
    /// A place for each of some sizes; empty before the first table.
    kept: Vec<Option<([u64; 3], LnRatios)>>,
}

/// The number of tables that are kept.
const KEPT: usize = 1024;

impl Ratios {
    /// `None` if x can have only one value, so that each ratio is 1.
    fn of(&mut self, table: Table) -> Option<LnRatios> {
        if !table.is_informative() {
            return None;
        }
        let sizes = [
            table.reference.requests,
            table.suspect.requests,
            table.reference.failures + table.suspect.failures,
        ];
        if self.kept.is_empty() {
            self.kept = vec![None; KEPT];
        }
        let hash = sizes.into_iter().fold(0_u64, |hash, size| {
            hash.wrapping_add(size).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23)
        });
        #[expect(clippy::cast_possible_truncation, reason = "the remainder is small")]
        let place = &mut self.kept[(hash % KEPT as u64) as usize];
        let weights = match place {
            Some((of, weights)) if *of == sizes => *weights,
            _ => place.insert((sizes, table.ln_weights_of_alternatives())).1,
        };
        let x = real(table.suspect.failures);
        let mut ratios = weights;
        for (ratio, odds) in ratios.iter_mut().zip(GREATER) {
            *ratio += x * odds.ln();
        }
        Some(ratios)
    }
}

/// A histogram of latencies. Each is kept to 1 %.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Distribution {
    /// The number of latencies in each bucket.
    buckets: Vec<u64>,
    count: u64,
}

/// The buckets in each power of two.
const PER_OCTAVE: u64 = 64;
/// Longer latencies, in microseconds, count as this long: about 19 hours.
const LONGEST: u64 = 1 << 36;

impl Distribution {
    fn add(&mut self, latency: Duration) {
        let microseconds = u64::try_from(latency.as_micros()).map_or(LONGEST, |time| time.min(LONGEST));
        let bucket = bucket_of(microseconds);
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.count += 1;
    }

    /// The percentile by nearest rank, in milliseconds.
    fn percentile(&self, percent: u64) -> Option<f64> {
        let rank = (self.count * percent).div_ceil(100).max(1);
        let mut at_most = 0;
        let bucket = self.buckets.iter().position(|number| {
            at_most += number;
            at_most >= rank
        });
        bucket.map(|bucket| middle_of(bucket) / 1e3)
    }

    fn percentiles(&self) -> Percentiles {
        let [p50_ms, p90_ms, p99_ms] = [50, 90, 99].map(|percent| self.percentile(percent));
        Percentiles { answers: self.count, p50_ms, p90_ms, p99_ms }
    }
}

fn bucket_of(microseconds: u64) -> usize {
    let shift = microseconds.checked_ilog2().unwrap_or(0).saturating_sub(PER_OCTAVE.ilog2());
    usize::try_from(PER_OCTAVE * u64::from(shift) + (microseconds >> shift)).unwrap_or(usize::MAX)
}

/// The middle of a bucket, in microseconds.
fn middle_of(bucket: usize) -> f64 {
    let bucket = bucket as u64;
    if bucket < 2 * PER_OCTAVE {
        return real(bucket); // it holds only this one
    }
    let shift = bucket / PER_OCTAVE - 1;
    let (least, size) = ((bucket - PER_OCTAVE * shift) << shift, 1_u64 << shift);
    real(least) + real(size - 1) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{odds::OddsTest, testing::counts};

    fn milliseconds(time: f64) -> Duration {
        Duration::from_secs_f64(time / 1e3)
    }

    fn good(release: Release, ms: f64) -> Request<'static> {
        Request::new(Some(release), Outcome::Success).with_latency(Some(milliseconds(ms)))
    }

    fn observed(factor: f64, requests: impl IntoIterator<Item = Request<'static>>) -> Latencies {
        let mut latencies = Latencies::new(factor);
        for request in requests {
            latencies.observe(&request);
        }
        latencies.end_batches();
        latencies
    }

    /// Rounds of three answers of stable and one of the canary.
    fn rounds(rounds: usize, stable: f64, canary: f64) -> Vec<Request<'static>> {
        let stable = good(Release::Stable, stable);
        [stable, stable, stable, good(Release::Canary, canary)].repeat(rounds)
    }

    #[test]
    fn a_canary_that_takes_twice_as_long_is_slower_and_one_that_takes_as_long_is_not() {
        let slower = observed(1.0, rounds(16, 20.0, 41.0));
        assert!(slower.peak_ln_e_value() > 20_f64.ln(), "{}", slower.peak_ln_e_value());
        let clearest = slower.clearest().unwrap();
        assert_eq!((clearest.canary_share, clearest.stable_share), (1.0, 0.0));
        assert!([25.0, 40.0].contains(&clearest.threshold_ms));
        for (stable, canary) in [(20.0, 20.0), (20.0, 10.0)] {
            assert!(observed(1.0, rounds(1000, stable, canary)).peak_ln_e_value() < 1e-9, "{canary}");
        }
    }

    #[test]
    fn less_than_the_tolerance_is_no_evidence_and_more_is() {
        assert!(observed(1.0, rounds(100, 38.0, 42.0)).peak_ln_e_value() > 20.0);
        assert!(observed(1.2, rounds(100, 38.0, 42.0)).peak_ln_e_value() < 1e-9);
        // each threshold is multiplied by 1.2: 25 and 40 ms become 30 and 48 ms
        assert!(observed(1.2, rounds(100, 38.0, 49.0)).peak_ln_e_value() > 20.0);
        assert!(observed(1.2, rounds(100, 38.0, 47.9)).peak_ln_e_value() < 1e-9);
    }

    #[test]
    fn the_time_of_a_failure_does_not_count() {
        let slow_failure =
            Request::new(Some(Release::Canary), Outcome::Failure).with_latency(Some(milliseconds(1e4)));
        let requests = rounds(500, 20.0, 20.0).into_iter().flat_map(|request| [request, slow_failure]);
        let latencies = observed(1.0, requests);
        assert!(latencies.peak_ln_e_value() < 1e-9);
        assert_eq!(latencies.percentiles(Release::Canary).answers, 500);
    }

    /// In one of ten rounds, answers take a second. Stable then fails them, and the canary does not.
    #[test]
    fn a_canary_that_answers_late_what_stable_fails_is_not_slower() {
        let busy = || {
            rounds(1, 1000.0, 1000.0).into_iter().map(|request| match request.release {
                Some(Release::Stable) => Request { outcome: Outcome::Failure, ..request },
                _ => request,
            })
        };
        let requests = (0..100).flat_map(|_| rounds(9, 20.0, 20.0).into_iter().chain(busy()));
        let latencies = observed(1.0, requests);
        assert!(latencies.slower.peaks[0] > 20.0 && latencies.peak_ln_e_value() < 1e-9);
    }

    #[test]
    fn an_answer_that_is_late_for_the_limit_still_counts_with_its_time() {
        let late = |request: Request<'static>| Request { outcome: Outcome::Slow, ..request };
        let requests = rounds(16, 20.0, 41.0).into_iter().map(late);
        assert!(observed(1.0, requests).peak_ln_e_value() > 20_f64.ln());
    }

    /// Each release is as fast on each path, but the canary gets the slow one more often.
    #[test]
    fn another_mix_of_strata_is_no_evidence() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut of_kind = |request: Request<'static>, strata: bool| {
            let is_slow = rng.f64() < if request.release == Some(Release::Canary) { 0.8 } else { 0.2 };
            let (name, ms) = if is_slow { ("/slow", 300.0) } else { ("/fast", 5.0) };
            request.with_latency(Some(milliseconds(ms))).with_stratum(strata.then_some(name))
        };
        let mut ln_e_value = |strata| {
            let requests = rounds(500, 0.0, 0.0).into_iter().map(|request| of_kind(request, strata));
            observed(1.0, requests.collect::<Vec<_>>()).peak_ln_e_value()
        };
        assert!(ln_e_value(false) > 100.0);
        assert!(ln_e_value(true) < 1e-9);
    }

    #[test]
    fn requests_that_name_no_stratum_are_not_compared_if_others_do() {
        let mut requests = vec![good(Release::Stable, 1.0).with_stratum(Some("/"))];
        requests.extend(rounds(100, 20.0, 45.0));
        let latencies = observed(1.0, requests);
        assert_eq!((latencies.compared(), latencies.percentiles(Release::Canary).answers), (0, 0));
    }

    #[test]
    fn the_number_of_strata_is_bounded() {
        let mut latencies = Latencies::new(1.0);
        for number in 0..1000 {
            let name = format!("/{number}");
            latencies.observe(&good(Release::Canary, 1.0).with_stratum(Some(&name)));
        }
        assert_eq!(latencies.strata.len(), MOST_STRATA);
    }

    #[test]
    fn stables_share_is_of_the_canarys_mix() {
        // in the first half 10 of 10 of stable's are slow, in the second 0 of 90; the canary has 50 in each
        let mut slower = Slower::new(1);
        let table = |reference, suspect| Table { reference, suspect };
        for seen in [table(counts(10, 10), counts(50, 50)), table(counts(0, 90), counts(1, 50))] {
            slower.observe(0, seen, seen, 0.0);
        }
        let shares = slower.clearest().unwrap().1.at(1.0, 1.0);
        assert_eq!((shares.canary_share, shares.stable_share), (0.51, 0.5));
    }

    #[test]
    fn a_ratio_that_is_kept_is_the_one_that_the_test_of_odds_computes() {
        let mut ratios = Ratios::default();
        for round in 0..2 {
            for (m, n) in (1..12).flat_map(|m| (1..30).map(move |n| (m, n))) {
                for (x, y) in [(0, 1), (1, 0), (m, 0), (m / 2, n / 2), (m, n - 1), (m, n)] {
                    let table = Table { reference: counts(y, n), suspect: counts(x, m) };
                    let expected = GREATER.map(|odds| {
                        let mut test = OddsTest::new(1.0, [odds]);
                        test.observe(table);
                        test.ln_e_value()
                    });
                    let found = ratios.of(table).unwrap_or_default();
                    for (found, expected) in found.into_iter().zip(expected) {
                        assert!((found - expected).abs() < 1e-9, "{round}: {table:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_share_that_moved_is_as_in_the_test_of_odds() {
        let table = Table { reference: counts(1, 30), suspect: counts(4, 10) };
        for moved in [0.1, 0.5, 1.0, 2.0] {
            let expected = GREATER.map(|odds| {
                let mut test = OddsTest::new(1.0, [odds]);
                test.observe_with_share(table, moved);
                test.ln_e_value()
            });
            let found = ln_ratios_of_moved(table, moved).unwrap();
            assert!(
                found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-9),
                "{moved}"
            );
        }
    }

    #[test]
    fn percentiles_are_exact_to_one_per_cent() {
        for microseconds in (0..300).chain([999, 12_345, 98_765_432]) {
            let mut one = Distribution::default();
            one.add(Duration::from_micros(microseconds));
            let shown = one.percentile(50).unwrap() * 1e3;
            assert!(
                (shown - real(microseconds)).abs() <= 0.008 * real(microseconds),
                "{microseconds}: {shown}"
            );
        }
        let mut hundred = Distribution::default();
        (1..=100).for_each(|number| hundred.add(Duration::from_millis(number)));
        let Percentiles { p50_ms, p90_ms, p99_ms, answers } = hundred.percentiles();
        assert_eq!(answers, 100);
        for (shown, exact) in [(p50_ms, 50.0), (p90_ms, 90.0), (p99_ms, 99.0)] {
            assert!((shown.unwrap() / exact - 1.0).abs() < 0.008, "{shown:?}");
        }
        let mut long = Distribution::default();
        long.add(Duration::MAX);
        assert!(long.buckets.len() < 2100 && long.percentile(50).is_some());
    }
}
