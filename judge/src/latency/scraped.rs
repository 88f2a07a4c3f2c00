//! The same for histograms of pods that are scraped at different moments.
//!
//! The thresholds are the bounds of the buckets. With a tolerance `d`, each bound `t` of stable's histogram has a
//! partner: the smallest bound of the canary's that is at least `(1 + d)·t`. The pairs are fixed with the first
//! histograms of both releases; bounds do not depend on what was counted.
//!
//! A table is the bracket of [`crate::scrapes`], with slower answers as failures: for the canary, the slower answers of the
//! windows within the batch, and all answers of those that touch it; for stable, the slower answers of the windows that touch
//! the batch, and the answers of those within it. Its argument is about any outcome of a request, so it holds for this one.
//! The batches of each length have their part of α, as for failures.
//!
//! If requests are divided, each stratum has tables of its own. They go into the same products.
//!
//! A histogram counts the answers that its selector selects. So failures are in it or not, as the user says, and there is one
//! test.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::Slower;
use crate::{
    Counts, Release, Window, alpha,
    odds::Table,
    real,
    verdict::{self, Percentiles},
};

/// The maximum number of thresholds.
const MOST_THRESHOLDS: usize = 64;
/// Two bounds are the same if they differ by less than this part: decimal and binary numbers differ.
const SAME: f64 = 1e-9;

/// How long the answers of a pod took in a window, as the buckets of a histogram tell it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// All answers that the histogram has counted.
    pub answers: u64,
    /// For each bound in seconds, from the smallest on: how many of them took longer. Each is at most the one before.
    pub slower: Vec<(f64, u64)>,
}

impl Histogram {
    /// The number of answers that took longer than this bound; `None` if it is not one of the bounds.
    fn slower_than(&self, bound: f64) -> Option<u64> {
        let place = self.slower.partition_point(|(other, _)| *other < bound * (1.0 - SAME));
        let (found, slower) = self.slower.get(place)?;
        (*found <= bound * (1.0 + SAME)).then_some(*slower)
    }
}

/// The histogram of a stratum in these windows' lists; `None` if it has none.
fn of_stratum<'a>(window: &'a Window, stratum: &str) -> Option<&'a Histogram> {
    window.latencies.iter().find(|(name, _)| **name == *stratum).map(|(_, histogram)| histogram)
}

/// The comparison of both releases by the histograms of their pods.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct ScrapedLatencies {
    /// The canary may take this many times as long as stable.
    factor: f64,
    /// The bounds of stable and of the canary that are compared; empty before both have a histogram.
    pairs: Vec<(f64, f64)>,
    /// The evidence from the batches of each length.
    slower: Vec<Slower>,
    /// All that both releases have counted.
    totals: [Totals; 2],
    /// The strata that are compared; the empty name if requests are not divided.
    strata: BTreeSet<Box<str>>,
}

impl ScrapedLatencies {
    /// Without histograms. The canary may take `factor` times as long as stable.
    pub(crate) fn new(factor: f64) -> Self {
        Self {
            factor,
            pairs: Vec::new(),
            slower: Vec::new(),
            totals: Default::default(),
            strata: BTreeSet::new(),
        }
    }

    /// Notes the histogram of a window.
    pub(crate) fn follow(&mut self, window: &Window) {
        for (stratum, histogram) in &window.latencies {
            if !self.strata.contains(&**stratum) {
                if self.strata.len() == super::MOST_STRATA {
                    continue;
                }
                self.strata.insert(stratum.as_ref().into());
            }
            self.totals[super::side(window.release)].add(histogram);
        }
        let [stable, canary] = &self.totals;
        if self.pairs.is_empty() && !stable.bounds.is_empty() && !canary.bounds.is_empty() {
            self.pairs = pairs(&stable.bounds, &canary.bounds, self.factor);
            self.slower = alpha::LENGTHS.map(|_| Slower::new(self.pairs.len())).into();
        }
    }

    /// Adds the batch from `since` to `until` of the length with this index. `typical` is the usual number of the canary's
    /// answers in a window, and `moved` how far its share of the requests moved up.
    pub(crate) fn observe<'a>(
        &mut self,
        length: usize,
        windows: impl Iterator<Item = &'a Window>,
        (since, until): (f64, f64),
        typical: u64,
        moved: f64,
    ) {
        let Some(slower) = self.slower.get_mut(length) else { return };
        let pods = pods(windows, since, until);
        for stratum in &self.strata {
            for (index, bounds) in self.pairs.iter().enumerate() {
                let table = table(&pods, stratum, (since, until), *bounds, typical);
                slower.observe(index, table, table, moved);
            }
        }
        slower.end_batch();
    }

    /// Whether it can be what a judge has written.
    pub(crate) fn is_sound(&self) -> bool {
        let has_all = |slower: &Slower| slower.thresholds.len() == self.pairs.len();
        self.slower.len() <= alpha::LENGTHS.len()
            && self.slower.iter().all(has_all)
            && self.totals.iter().all(|totals| totals.bounds.len() == totals.slower.len())
    }

    /// The natural logarithm of the greatest e-value so far, times its part of α; at least 0.
    pub(crate) fn peak_ln_e_value(&self) -> f64 {
        let by_length = self.slower.iter().zip(alpha::LENGTHS);
        by_length.map(|(slower, part)| slower.peak_ln_e_value() + part.ln()).fold(0.0, f64::max)
    }

    /// The number of the canary's answers, once some were compared.
    pub(crate) fn compared(&self) -> u64 {
        let any = self.slower.iter().any(|slower| slower.compared() > 0);
        if any { self.totals[super::side(Release::Canary)].answers } else { 0 }
    }

    /// The latencies of a release.
    pub(crate) fn percentiles(&self, release: Release) -> Percentiles {
        self.totals[super::side(release)].percentiles()
    }

    /// Where the difference is clearest, with the shares of all answers so far.
    pub(crate) fn clearest(&self) -> Option<verdict::Slower> {
        let evidence = |slower: &&Slower| slower.peak_ln_e_value();
        let most = self.slower.iter().max_by(|one, other| evidence(one).total_cmp(&evidence(other)))?;
        let (stable, canary) = *self.pairs.get(most.clearest()?.0)?;
        let [of_stable, of_canary] = &self.totals;
        Some(verdict::Slower {
            threshold_ms: stable * 1e3,
            canary_threshold_ms: canary * 1e3,
            canary_share: of_canary.share_slower_than(canary)?,
            stable_share: of_stable.share_slower_than(stable)?,
        })
    }
}

/// The bounds to compare. If there are more than [`MOST_THRESHOLDS`], some are left out, evenly.
fn pairs(stable: &[f64], canary: &[f64], factor: f64) -> Vec<(f64, f64)> {
    let step = stable.len().div_ceil(MOST_THRESHOLDS).max(1);
    let partner = |bound: f64| canary.iter().copied().find(|other| *other >= bound * factor * (1.0 - SAME));
    stable.iter().step_by(step).filter_map(|bound| Some((*bound, partner(*bound)?))).collect()
}

/// What a pod's windows tell about the time of a batch.
struct Pod<'a> {
    release: Release,
    windows: Vec<&'a Window>,
}

/// The pods that were scraped in all of the time, with the windows that touch it. A pod of stable that has restarted is left
/// out: what it counted just before that is lost.
fn pods<'a>(windows: impl Iterator<Item = &'a Window>, since: f64, until: f64) -> Vec<Pod<'a>> {
    let mut pods: HashMap<(Release, &str), Vec<&Window>> = HashMap::new();
    for window in windows.filter(|window| window.since < until && window.until > since) {
        pods.entry((window.release, &window.pod)).or_default().push(window);
    }
    let begin = |windows: &[&Window]| windows.iter().map(|window| window.since).fold(f64::INFINITY, f64::min);
    let end = |windows: &[&Window]| windows.iter().map(|window| window.until).fold(0.0, f64::max);
    let all = pods.into_iter().map(|((release, _), windows)| Pod { release, windows });
    let takes_part = |pod: &Pod| {
        let is_whole = pod.release == Release::Canary || pod.windows.iter().all(|window| !window.restarted);
        is_whole && begin(&pod.windows) <= since && end(&pod.windows) >= until
    };
    all.filter(takes_part).collect()
}

/// The bracket of one pair of bounds, within a stratum. A pod with other bounds is left out.
fn table(pods: &[Pod], stratum: &str, (since, until): (f64, f64), bounds: (f64, f64), typical: u64) -> Table {
    let (mut reference, mut suspect) = (Counts::default(), Counts::default());
    for Pod { release, windows } in pods {
        let bound = if *release == Release::Canary { bounds.1 } else { bounds.0 };
        let counted = windows.iter().map(|window| {
            let (answers, slower) = match of_stratum(window, stratum) {
                Some(histogram) => (histogram.answers, histogram.slower_than(bound)?),
                None => (0, 0), // it had no request
            };
            Some((window, answers, slower))
        });
        let Some(counted) = counted.collect::<Option<Vec<_>>>() else { continue };
        for (window, answers, slower) in counted {
            let is_within = window.since >= since && window.until <= until;
            match release {
                Release::Canary => {
                    suspect.requests += answers + u64::from(window.restarted) * typical;
                    suspect.failures += if is_within { slower } else { 0 };
                }
                Release::Stable => {
                    reference.requests += if is_within { answers } else { 0 };
                    reference.failures += slower;
                }
            }
        }
    }
    reference.requests = reference.requests.max(reference.failures);
    Table { reference, suspect }
}

/// All that the histograms of a release have counted. The bounds are those of the first one.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Totals {
    bounds: Vec<f64>,
    slower: Vec<u64>,
    answers: u64,
}

impl Totals {
    fn add(&mut self, histogram: &Histogram) {
        if self.bounds.is_empty() {
            self.bounds = histogram.slower.iter().map(|(bound, _)| *bound).collect();
            self.slower = vec![0; self.bounds.len()];
        }
        let counted = self.bounds.iter().map(|bound| histogram.slower_than(*bound));
        let Some(counted) = counted.collect::<Option<Vec<_>>>() else { return };
        self.answers += histogram.answers;
        for (slower, more) in self.slower.iter_mut().zip(counted) {
            *slower += more;
        }
    }

    fn share_slower_than(&self, bound: f64) -> Option<f64> {
        let place = self.bounds.iter().position(|other| (other / bound - 1.0).abs() <= SAME)?;
        (self.answers > 0).then(|| real(self.slower[place]) / real(self.answers))
    }

    /// The percentile in milliseconds: as in Prometheus, answers are spread evenly in their bucket, and those beyond the last
    /// bound are shown as that.
    fn percentile(&self, percent: u64) -> Option<f64> {
        let beyond = real(self.answers) * real(100 - percent) / 100.0;
        let (mut lower, mut slower) = (0.0, real(self.answers));
        for (bound, beyond_bound) in self.bounds.iter().zip(&self.slower) {
            let beyond_bound = real(*beyond_bound);
            if beyond_bound <= beyond {
                let within = slower - beyond_bound;
                let part = if within > 0.0 { (slower - beyond) / within } else { 1.0 };
                return (self.answers > 0).then_some((lower + part * (bound - lower)) * 1e3);
            }
            (lower, slower) = (*bound, beyond_bound);
        }
        (self.answers > 0 && lower > 0.0).then_some(lower * 1e3)
    }

    fn percentiles(&self) -> Percentiles {
        let [p50_ms, p90_ms, p99_ms] = [50, 90, 99].map(|percent| self.percentile(percent));
        Percentiles { answers: self.answers, p50_ms, p90_ms, p99_ms }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::odds::{GREATER, OddsTest};

    const BOUNDS: [f64; 5] = [0.01, 0.025, 0.05, 0.1, 0.25];

    /// The histogram of these latencies in milliseconds.
    fn histogram(latencies: &[f64]) -> Histogram {
        let slower = |bound: &f64| latencies.iter().filter(|ms| **ms / 1e3 > *bound).count() as u64;
        Histogram {
            answers: latencies.len() as u64,
            slower: BOUNDS.iter().map(|bound| (*bound, slower(bound))).collect(),
        }
    }

    fn window(release: Release, pod: &str, since: f64, until: f64, latencies: &[f64]) -> Window {
        let counts = Counts { requests: latencies.len() as u64, failures: 0, slow: 0 };
        let latencies = vec![("".into(), histogram(latencies))];
        let (pod, restarted, is_warm_up, strata) = (pod.into(), false, false, Vec::new());
        Window { release, pod, since, until, counts, restarted, is_warm_up, strata, latencies }
    }

    #[test]
    fn a_bound_has_the_next_bound_beyond_the_tolerance_as_its_partner() {
        let same: Vec<_> = BOUNDS.iter().map(|bound| (*bound, *bound)).collect();
        assert_eq!(pairs(&BOUNDS, &BOUNDS, 1.0), same);
        assert_eq!(
            pairs(&BOUNDS, &BOUNDS, 1.2),
            [(0.01, 0.025), (0.025, 0.05), (0.05, 0.1), (0.1, 0.25)],
            "the last one has none"
        );
        assert_eq!(pairs(&[0.1, 0.2], &[0.3, 0.24, 0.25].map(|it| it), 1.2), [(0.1, 0.3), (0.2, 0.3)]);
        let many: Vec<_> = (1..1000).map(f64::from).collect();
        assert!(pairs(&many, &many, 1.0).len() <= MOST_THRESHOLDS);
    }

    #[test]
    fn percentiles_are_those_of_prometheus() {
        let mut totals = Totals::default();
        totals.add(&histogram(&[5.0, 20.0, 20.0, 20.0, 40.0, 40.0, 40.0, 40.0, 400.0, 400.0]));
        assert_eq!(totals.percentile(50), Some(31.25), "the first of four between 25 and 50 ms");
        assert_eq!(totals.percentile(80), Some(50.0));
        assert_eq!(totals.percentile(99), Some(250.0), "beyond the last bound");
        assert_eq!(Totals::default().percentile(50), None);
    }

    /// Each release is as fast on each path, but the canary gets the slow one more often.
    #[test]
    fn another_mix_of_strata_is_no_evidence() {
        let mixed = |release, pod: &str, since: f64, fast: usize, slow: usize| {
            let (fast, slow) = (vec![8.0; fast], vec![80.0; slow]);
            let all = [&fast[..], &slow].concat();
            let pooled = window(release, pod, since, since + 10.0, &all);
            let latencies = vec![("/".into(), histogram(&fast)), ("/report".into(), histogram(&slow))];
            [pooled.clone(), Window { latencies, ..pooled }]
        };
        let peak = |form: usize| {
            let mut latencies = ScrapedLatencies::new(1.0);
            let all: Vec<_> = (0..40)
                .flat_map(|round| {
                    let since = 10.0 * f64::from(round);
                    let stable = mixed(Release::Stable, "one", since, 90, 10);
                    [stable[form].clone(), mixed(Release::Canary, "two", since, 10, 20)[form].clone()]
                })
                .collect();
            for window in &all {
                latencies.follow(window);
            }
            for round in 0..20 {
                let since = 20.0 * f64::from(round);
                latencies.observe(0, all.iter(), (since, since + 20.0), 0, 0.0);
            }
            (latencies.peak_ln_e_value(), latencies.compared())
        };
        let ((pooled, _), (divided, compared)) = (peak(0), peak(1));
        assert!(pooled > 20.0 && divided < 1e-9 && compared > 0, "{pooled} {divided} {compared}");
    }

    #[test]
    fn a_pod_with_other_bounds_is_left_out() {
        let mut other = window(Release::Stable, "other", 0.0, 10.0, &[400.0; 50]);
        other.latencies = vec![("".into(), Histogram { answers: 50, slower: vec![(0.3, 50)] })];
        let all = [
            window(Release::Stable, "one", 0.0, 10.0, &[20.0; 30]),
            other,
            window(Release::Canary, "two", 0.0, 10.0, &[40.0; 10]),
        ];
        let table = table(&pods(all.iter(), 0.0, 10.0), "", (0.0, 10.0), (0.025, 0.025), 0);
        assert_eq!((table.reference.requests, table.reference.failures), (30, 0));
        assert_eq!((table.suspect.requests, table.suspect.failures), (10, 10));
    }

    /// The requests of a pod: the moment and the latency in milliseconds of each, and the moments of its scrapes.
    type Requests = (Vec<(f64, f64)>, Vec<f64>);

    fn requests() -> impl Strategy<Value = Requests> {
        let requests = prop::collection::vec((0.0..100.0_f64, 1.0..400.0_f64), 0..40);
        (requests, prop::collection::vec(5.0..95.0_f64, 2..12)).prop_map(|(requests, mut scrapes)| {
            scrapes.extend([0.0, 100.0]);
            scrapes.sort_by(f64::total_cmp);
            (requests, scrapes)
        })
    }

    proptest! {
        /// Whatever the moments of requests and scrapes are.
        #[test]
        fn the_bracket_of_a_threshold_is_never_more_evidence_than_the_exact_table(
            stable in prop::collection::vec(requests(), 1..4),
            canary in prop::collection::vec(requests(), 1..3),
            (begin, end, bound) in (0..11_usize, 1..12_usize, 0..BOUNDS.len()),
        ) {
            let lead = &canary[0].1;
            let begin = begin % (lead.len() - 1);
            let (since, until) = (lead[begin], lead[(begin + end).min(lead.len() - 1)]);
            let during = |requests: &[(f64, f64)], since: f64, until: f64| -> Vec<f64> {
                requests.iter().filter(|(at, _)| *at > since && *at <= until).map(|(_, ms)| *ms).collect()
            };
            let all = |pods: &[Requests], release| -> Vec<Window> {
                pods.iter().enumerate().flat_map(|(pod, (requests, scrapes))| {
                    scrapes.windows(2).map(|two| {
                        window(release, &pod.to_string(), two[0], two[1], &during(requests, two[0], two[1]))
                    }).collect::<Vec<_>>()
                }).collect()
            };
            let windows = [all(&stable, Release::Stable), all(&canary, Release::Canary)].concat();
            let threshold = BOUNDS[bound];
            let exact = |pods: &[Requests]| {
                let seen: Vec<_> = pods.iter().flat_map(|(requests, _)| during(requests, since, until)).collect();
                let slower = seen.iter().filter(|ms| **ms / 1e3 > threshold).count() as u64;
                Counts { requests: seen.len() as u64, failures: slower, slow: 0 }
            };
            let exact = Table { reference: exact(&stable), suspect: exact(&canary) };
            let found = table(&pods(windows.iter(), since, until), "", (since, until), (threshold, threshold), 0);
            let ln_ratio = |table, odds| {
                let mut test = OddsTest::new(1.0, [odds]);
                test.observe(table);
                test.ln_e_value()
            };
            for odds in GREATER {
                prop_assert!(ln_ratio(found, odds) <= ln_ratio(exact, odds) + 1e-9, "{found:?} {exact:?}");
            }
        }
    }
}
