//! Counters of pods that are scraped at different moments.
//!
//! # The bracket
//!
//! Prometheus reads the counters of each pod at moments of its own. So the increases of two pods never belong to the
//! same time, and an incident that hits both releases at once reaches their counters in different intervals. To
//! compare such intervals as if they were of the same time would blame one side.
//!
//! A batch is the time between two scrapes of one pod of the canary, the *lead*. For the roll-back, the table of the
//! batch is the worst for that decision among all tables that the scrapes admit:
//!
//! - the canary: the failures of the [windows](Window) that lie within the batch, and the requests of all windows that
//!   touch it. (For the lead, these are the same windows.)
//! - stable: the failures of all windows that touch the batch, and the requests of those that lie within it, and at
//!   least as many requests as failures.
//!
//! The likelihood ratio P(x; θ₁) / P(x; 1) of Fisher's noncentral hypergeometric distribution, with θ₁ > 1, falls if
//! one of these happens: the suspect has a failure less, or a success more; the reference has a failure more, or a
//! success less. (It is θ₁^x / E(θ₁^X), where X is hypergeometric. X rises, in the usual stochastic order, with the
//! suspect's requests and with the number of failures, and falls with the reference's requests. One failure more
//! raises X by at most 1, so E(θ₁^X) by at most the factor θ₁.) So the ratio is at most that of the exact table of
//! this time, and the product over all batches is at most a test supermartingale: whatever the moments of the scrapes
//! are, and however the common failure rate changes.
//!
//! For the promotion by the ratio, the roles are reversed: for the canary, failures that touch and requests within;
//! for stable, failures within and requests that touch. (The same argument, with θ₁ < θ₀.)
//!
//! # A share that moves
//!
//! If the canary's share of the requests moves within a batch, and an incident comes while it is great, the canary has
//! more of the failures than its share of the whole batch explains. At the moment with the greatest share, the odds that
//! a request is the canary's are higher by some factor than in the whole batch. So the null hypothesis for the batch is
//! wider by this factor: the odds ratio is at most the factor, instead of 1. It is estimated from the sizes between the
//! lead's scrapes, as far as they differ by more than chance. A batch in which the canary had all requests for a while, as
//! after a promotion, is no evidence at all.
//!
//! # Strata
//!
//! If the counters tell the stratum of each request, such as its path, each stratum has a bracket of its own of the same
//! time. Each of them is at most the likelihood ratio of the exact table, and so is their product.
//!
//! # Several lengths
//!
//! A bracket costs stable about one window of its requests, at both ends together, so a short batch has little
//! power, and a long one is late. Batches of four lengths run beside each other. They contain the same requests, so
//! their e-values are not e-processes in one filtration, and their mean would not be one. So each has a part of α.
//!
//! The length of a batch is fixed when it begins, from the sizes of earlier windows. A batch begins with a window in
//! which the canary has answered. Neither depends on which of the batch's requests fail.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    Counts, Release, alpha,
    comparison::{Comparison, Tables, Within},
    latency::{Histogram, ScrapedLatencies},
    odds::Table,
    real,
    settings::Settings,
};

/// The increase of a pod's counters from one scrape to the next.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// The pod's release.
    pub release: Release,
    /// The pod, or what else has counters of its own that are scraped at one moment.
    pub pod: Arc<str>,
    /// The time of the earlier scrape, in seconds. All windows of a judge have the same clock.
    pub since: f64,
    /// The time of the later scrape. A pod's windows follow each other. `since` = `until` for a pod's first scrape: it
    /// has no increase yet.
    pub until: f64,
    /// The increase.
    pub counts: Counts,
    /// Whether the pod has started anew, with counters at 0. What it counted after the earlier scrape is lost.
    pub restarted: bool,
    /// Whether the pod had just started, at the earlier scrape, so that the window is left out if
    /// [`Settings::warm_up`](crate::Settings::warm_up) is set.
    pub is_warm_up: bool,
    /// If requests are divided into strata, such as paths: the part of `counts` of each. What is in none of them belongs to
    /// none.
    pub strata: Vec<(Arc<str>, Counts)>,
    /// How long the answers took, if histograms tell that: one of each stratum, with its name, or one without a name if
    /// requests are not divided.
    pub latencies: Vec<(Arc<str>, Histogram)>,
}

/// A window that is kept, and the part of each stratum, by its place.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    window: Window,
    parts: Vec<(usize, Counts)>,
}

impl Kept {
    pub(crate) fn new(window: Window, parts: Vec<(usize, Counts)>) -> Self {
        Self { window: Window { strata: Vec::new(), ..window }, parts }
    }

    /// The counts of a stratum, or of all.
    fn counts(&self, stratum: Option<usize>) -> Counts {
        let Some(stratum) = stratum else { return self.window.counts };
        self.parts.iter().filter(|(place, _)| *place == stratum).map(|(_, counts)| *counts).sum()
    }

    /// The memory that it takes, in windows without parts and histograms.
    fn size(&self) -> usize {
        let bounds = self.window.latencies.iter().map(|(_, histogram)| histogram.slower.len()).sum::<usize>();
        1 + self.parts.len() / PARTS_OF_A_WINDOW + bounds / BOUNDS_OF_A_WINDOW
    }
}

/// The lengths of batches, as multiples of the shortest.
const LENGTHS: [u32; 4] = [1, 2, 4, 8];
/// The shortest batch has at least this many windows of the lead.
const SHORTEST: f64 = 2.0;
/// And it has about this many more answers of the canary than the one that it begins with.
const ANSWERS: f64 = 2.0;
/// The shortest batch has at most this many windows.
const LONGEST: f64 = 128.0;
/// A promotion takes this many windows of the lead, or as many as there are in [`ENOUGH_TIME`]. With much traffic, its
/// first window has enough answers, and says nothing about the next minute.
const ENOUGH_WINDOWS: f64 = 8.0;
/// In seconds.
const ENOUGH_TIME: f64 = 120.0;
/// The factor by which the weight of a window falls with each later window of the lead.
const DECAY: f64 = 0.99;
/// A pod without a scrape for this many of its intervals is gone.
const GONE_AFTER: f64 = 2.5;
/// The maximum plausible time between two scrapes of a pod, in seconds.
const LONGEST_INTERVAL: f64 = 300.0;
/// The maximum number of windows that are kept. With more, the batches that have not ended are not compared.
const MOST_WINDOWS: usize = 1 << 16;
/// So many bounds of histograms take the memory of one window.
const BOUNDS_OF_A_WINDOW: usize = 8;
/// So many parts of strata take the memory of one window.
const PARTS_OF_A_WINDOW: usize = 3;
/// A pod that is gone for this long is forgotten, in seconds.
const REMEMBERED_FOR: f64 = 3600.0;

/// The comparison of both releases by their pods' windows.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Scrapes {
    #[serde(skip)]
    pods: Vec<ScrapedPod>,
    /// The windows that a batch may still need, in the order in which they came.
    #[serde(skip)]
    windows: VecDeque<Kept>,
    /// The canary's pod whose scrapes divide the time into batches.
    #[serde(skip)]
    lead: Option<Arc<str>>,
    /// The number of the lead's windows, and the length of the last one in seconds.
    led: (u64, f64),
    /// The number of windows in the shortest batches that are open. It is fixed when no batch is open, so that all lengths
    /// end together with the longest.
    shortest_now: u32,
    /// Whether all batches have ended at once since the last call of [`Scrapes::all_have_ended`].
    all_ended: bool,
    /// Answers of the canary in the lead's recent windows, and the number of these windows, weighted by [`DECAY`].
    recent: (f64, f64),
    #[serde(skip, default = "no_lanes")]
    lanes: [Lane; LENGTHS.len()],
    /// The evidence from the batches of each length.
    comparisons: [Comparison; LENGTHS.len()],
    latencies: ScrapedLatencies,
}

#[derive(Clone, Debug)]
struct ScrapedPod {
    release: Release,
    name: Arc<str>,
    since: f64,
    until: f64,
    /// The lengths of its last two windows, in seconds; 0 before there are any.
    lengths: [f64; 2],
}

/// The batches of one length.
#[derive(Clone, Debug)]
struct Lane {
    multiple: u32,
    /// The open batch: the time at which it began, and the number of the lead's windows until it ends.
    open: Option<(f64, u32)>,
    /// Batches that have ended, and wait for the scrapes of other pods: their beginning and end.
    ended: VecDeque<(f64, f64)>,
}

/// No batch has begun.
fn no_lanes() -> [Lane; LENGTHS.len()] {
    LENGTHS.map(|multiple| Lane { multiple, open: None, ended: VecDeque::new() })
}

impl Scrapes {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            pods: Vec::new(),
            windows: VecDeque::new(),
            lead: None,
            led: (0, 0.0),
            shortest_now: 0,
            all_ended: false,
            recent: (0.0, 0.0),
            lanes: no_lanes(),
            comparisons: alpha::LENGTHS.map(|part| Comparison::new(settings, part)),
            latencies: ScrapedLatencies::new(settings.latency_factor()),
        }
    }

    /// The evidence from the batches of each length.
    pub(crate) fn comparisons(&self) -> &[Comparison] {
        &self.comparisons
    }

    /// The comparison of the latencies.
    pub(crate) fn latencies(&self) -> &ScrapedLatencies {
        &self.latencies
    }

    pub(crate) fn comparisons_mut(&mut self) -> &mut [Comparison] {
        &mut self.comparisons
    }

    /// The number of further scrapes of the canary that a promotion takes.
    pub(crate) fn missing_scrapes(&self) -> u64 {
        let (windows, length) = self.led;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 8")]
        let enough = (ENOUGH_TIME / length).ceil().clamp(1.0, ENOUGH_WINDOWS) as u64;
        enough.saturating_sub(windows)
    }

    /// Adds windows. Those of one pod come in the order of time. `known` is the number of strata that are known; `None`
    /// if requests are not divided.
    pub(crate) fn observe(&mut self, windows: impl IntoIterator<Item = Kept>, known: Option<usize>) {
        for kept in windows {
            self.follow(&kept.window);
            if !kept.window.is_warm_up {
                self.latencies.follow(&kept.window);
            }
            if kept.window.until > kept.window.since && !kept.window.is_warm_up {
                self.windows.push_back(kept);
            }
        }
        self.choose_lead();
        self.compare(known);
        self.forget();
    }

    /// Ends the open batches with the last scrape of the lead after which all pods were scraped.
    pub(crate) fn end(&mut self, known: Option<usize>) {
        let Some(lead) = self.lead.clone() else { return };
        let scraped = self.scraped_until();
        let end = self.windows_of(&lead).map(|window| window.until).filter(|until| *until <= scraped);
        let Some(end) = end.reduce(f64::max) else { return };
        self.end_open_batches(end);
        self.compare(known);
    }

    /// Notes a pod's window, and ends the batches that it completes.
    fn follow(&mut self, window: &Window) {
        let Window { release, pod: name, since, until, is_warm_up, .. } = window;
        let known = self.pods.iter_mut().find(|pod| pod.name == *name && pod.release == *release);
        if let Some(pod) = known {
            (pod.since, pod.until) = (*since, pod.until.max(*until));
            pod.lengths = [pod.lengths[1], until - since];
        } else {
            let (name, lengths) = (Arc::clone(name), [0.0, until - since]);
            self.pods.push(ScrapedPod { release: *release, name, since: *since, until: *until, lengths });
        }
        let is_lead = *release == Release::Canary && self.lead.as_ref() == Some(name);
        if is_lead && until > since && !is_warm_up {
            self.lead_scraped(window);
        }
    }

    fn lead_scraped(&mut self, window: &Window) {
        self.led = (self.led.0 + 1, window.until - window.since);
        let answers = real(window.counts.requests);
        self.recent = (self.recent.0 * DECAY + answers, self.recent.1 * DECAY + 1.0);
        let is_open = |lanes: &[Lane]| lanes.iter().any(|lane| lane.open.is_some());
        if !is_open(&self.lanes) {
            self.shortest_now = self.shortest();
        }
        let shortest = self.shortest_now;
        for lane in &mut self.lanes {
            if lane.open.is_none() && window.counts.requests > 0 {
                lane.open = Some((window.since, shortest * lane.multiple));
            }
            let Some((since, left)) = &mut lane.open else { continue };
            *left -= 1;
            if *left == 0 {
                lane.ended.push_back((*since, window.until));
                lane.open = None;
            }
        }
        self.all_ended |= !is_open(&self.lanes);
    }

    /// Whether the batches of all lengths have ended at once since the last call.
    pub(crate) fn all_have_ended(&mut self) -> bool {
        std::mem::take(&mut self.all_ended)
    }

    /// The usual number of the canary's answers in a window of the lead.
    fn typical(&self) -> u64 {
        let (answers, windows) = self.recent;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative")]
        let typical = (answers / windows.max(1.0)).ceil() as u64;
        typical
    }

    /// The number of windows in the shortest batch.
    fn shortest(&self) -> u32 {
        let (answers, windows) = self.recent;
        let windows = (ANSWERS * windows / answers.max(f64::MIN_POSITIVE)).clamp(SHORTEST, LONGEST).ceil();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between the two bounds")]
        let windows = windows as u32;
        windows
    }

    /// Ends the open batches when the lead is gone. Another pod of the canary is the lead then, if there is one, or if
    /// the canary's requests go to that one.
    fn choose_lead(&mut self) {
        let now = self.now();
        let lead = self.lead.as_ref().and_then(|lead| self.pod_of_canary(lead));
        let (is_gone, until) = lead.map_or((true, f64::NEG_INFINITY), |lead| (now.is_gone(lead), lead.until));
        if is_gone {
            self.end_open_batches(until);
        } else if self.lanes.iter().any(|lane| lane.open.is_some()) {
            return;
        }
        let answers =
            |name: &Arc<str>| self.windows_of(name).map(|window| window.counts.requests).sum::<u64>();
        let others = self.pods.iter().filter(|pod| {
            pod.release == Release::Canary && !now.is_gone(pod) && self.lead.as_ref() != Some(&pod.name)
        });
        let next = others.max_by_key(|pod| answers(&pod.name)).map(|pod| Arc::clone(&pod.name));
        let Some(next) = next.filter(|next| is_gone || answers(next) > 0) else { return };
        let of_next: Vec<_> =
            self.windows_of(&next).filter(|window| window.since >= until).cloned().collect();
        self.lead = Some(next);
        for window in &of_next {
            self.lead_scraped(window);
        }
    }

    fn pod_of_canary(&self, name: &Arc<str>) -> Option<&ScrapedPod> {
        self.pods.iter().find(|pod| pod.release == Release::Canary && pod.name == *name)
    }

    fn end_open_batches(&mut self, end: f64) {
        for lane in &mut self.lanes {
            if let Some((since, _)) = lane.open.take()
                && since < end
            {
                lane.ended.push_back((since, end));
            }
        }
        self.all_ended = true;
    }

    fn windows_of(&self, name: &Arc<str>) -> impl Iterator<Item = &Window> {
        let windows = self.windows.iter().map(|kept| &kept.window);
        windows.filter(move |one| one.release == Release::Canary && one.pod == *name)
    }

    /// The longest usual time between two scrapes of a pod that is not gone, in seconds; 0 before any is known.
    pub(crate) fn interval(&self) -> f64 {
        let now = self.now();
        let there = self.pods.iter().filter(|pod| !now.is_gone(pod));
        there.filter_map(ScrapedPod::interval).fold(0.0, f64::max)
    }

    fn newest(&self) -> f64 {
        self.pods.iter().map(|pod| pod.until).fold(f64::NEG_INFINITY, f64::max)
    }

    fn now(&self) -> Now {
        let usual = self.pods.iter().filter_map(ScrapedPod::interval).reduce(f64::max);
        Now { newest: self.newest(), usual: usual.unwrap_or(LONGEST_INTERVAL) }
    }

    /// The time until which all pods that are not gone were scraped.
    pub(crate) fn scraped_until(&self) -> f64 {
        let now = self.now();
        let there = self.pods.iter().filter(|pod| !now.is_gone(pod));
        there.map(|pod| pod.until).fold(f64::INFINITY, f64::min)
    }

    /// Adds all batches that no scrape can change any more.
    fn compare(&mut self, known: Option<usize>) {
        let lead = self.lead.as_deref().unwrap_or_default();
        let (scraped, typical) = (self.scraped_until(), self.typical());
        let lanes = self.lanes.iter_mut().zip(&mut self.comparisons).enumerate();
        for (length, (lane, comparison)) in lanes {
            while let Some((since, until)) = lane.ended.front().copied()
                && until <= scraped
            {
                lane.ended.pop_front();
                let bracket = Bracket::new(&self.windows, lead, since, until, typical);
                let has_incident = comparison.see_totals(&bracket.totals());
                let strata =
                    known.map_or_else(|| vec![None], |_| bracket.strata().into_iter().map(Some).collect());
                let mut moved = 0.0_f64;
                for stratum in strata {
                    let tables = bracket.tables(stratum);
                    moved = moved.max(tables.share_moved.0);
                    let within =
                        Within { stratum: stratum.unwrap_or(0), known: known.unwrap_or(1), has_incident };
                    comparison.observe(within, &tables);
                }
                // for all strata, the share of the one in which it moved most
                let windows = self.windows.iter().map(|kept| &kept.window);
                self.latencies.observe(length, windows, (since, until), typical, moved);
            }
        }
    }

    /// Forgets windows that no batch needs, and pods that are gone for long.
    fn forget(&mut self) {
        let newest = self.newest();
        self.pods.retain(|pod| newest - pod.until <= REMEMBERED_FOR);
        let lead = self.lead.as_ref().and_then(|lead| self.pod_of_canary(lead));
        // the next batch begins at the earliest at the lead's last scrape
        let next = lead.map_or(newest, |lead| lead.until);
        let begun = self.lanes.iter().filter_map(|lane| {
            let open = lane.open.map(|(since, _)| since);
            lane.ended.front().map(|(since, _)| *since).or(open)
        });
        let needed = begun.fold(next, f64::min);
        self.windows.retain(|kept| kept.window.until > needed);
        if self.windows.iter().map(Kept::size).sum::<usize>() > MOST_WINDOWS {
            self.windows.clear();
            for lane in &mut self.lanes {
                lane.open = None;
                lane.ended.clear();
            }
        }
    }
}

impl ScrapedPod {
    /// The interval of its scrapes: the shorter one of its last two windows, because a missed scrape makes one window
    /// longer. `None` before the second scrape.
    fn interval(&self) -> Option<f64> {
        let known = self.lengths.into_iter().filter(|length| *length > 0.0).reduce(f64::min);
        known.map(|interval| interval.min(LONGEST_INTERVAL))
    }
}

/// The newest scrape of all pods, and the interval of a pod that has told none yet: the longest of the others.
#[derive(Clone, Copy, Debug)]
struct Now {
    newest: f64,
    usual: f64,
}

impl Now {
    fn is_gone(self, pod: &ScrapedPod) -> bool {
        self.newest - pod.until > GONE_AFTER * pod.interval().unwrap_or(self.usual)
    }
}

/// The time in which a pod was scraped, as far as its windows touch a batch.
#[derive(Clone, Copy, Debug)]
struct Scraped {
    since: f64,
    until: f64,
    restarts: u64,
}

/// The windows of a batch, which is the time from `since` to `until`.
struct Bracket<'a> {
    since: f64,
    until: f64,
    /// The usual number of requests in a window of the canary.
    typical: u64,
    touching: Vec<&'a Kept>,
    pods: HashMap<(Release, &'a str), Scraped>,
    /// The lead's windows, which divide the totals.
    moments: Vec<(f64, f64)>,
}

impl<'a> Bracket<'a> {
    fn new(windows: &'a VecDeque<Kept>, lead: &str, since: f64, until: f64, typical: u64) -> Self {
        let touches = |kept: &&Kept| kept.window.since < until && kept.window.until > since;
        let touching: Vec<_> = windows.iter().filter(touches).collect();
        let mut pods: HashMap<(Release, &str), Scraped> = HashMap::new();
        for Kept { window, .. } in &touching {
            let first = Scraped { since: window.since, until: window.until, restarts: 0 };
            let pod = pods.entry((window.release, &*window.pod)).or_insert(first);
            pod.since = pod.since.min(window.since);
            pod.until = pod.until.max(window.until);
            pod.restarts += u64::from(window.restarted);
        }
        let of_lead = touching.iter().map(|kept| &kept.window);
        let of_lead = of_lead.filter(|one| one.release == Release::Canary && *one.pod == *lead);
        let moments = of_lead.map(|window| (window.since, window.until)).collect();
        Self { since, until, typical, touching, pods, moments }
    }

    /// The strata that have requests.
    fn strata(&self) -> BTreeSet<usize> {
        let parts = self.touching.iter().flat_map(|kept| &kept.parts);
        parts.map(|(place, _)| *place).collect()
    }

    /// The pod of a window, if it was scraped in all of the batch.
    fn pod_of(&self, window: &'a Window) -> Option<&Scraped> {
        let pod = self.pods.get(&(window.release, &*window.pod))?;
        (pod.since <= self.since && pod.until >= self.until).then_some(pod)
    }

    /// The counts of a stratum, or of all, of the windows within the batch and of those that touch it.
    fn sums(&self, release: Release, stratum: Option<usize>) -> (Counts, Counts) {
        let mut sums = (Counts::default(), Counts::default());
        for kept in self.touching.iter().filter(|kept| kept.window.release == release) {
            let Some(pod) = self.pod_of(&kept.window) else { continue };
            // what a pod of stable counted just before a restart is lost, failures too
            if release == Release::Stable && pod.restarts > 0 {
                continue;
            }
            let counts = kept.counts(stratum);
            sums.1 += counts;
            if kept.window.since >= self.since && kept.window.until <= self.until {
                sums.0 += counts;
            }
        }
        sums
    }

    /// The tables of a stratum, or of all.
    fn tables(&self, stratum: Option<usize>) -> Tables {
        let (stable_within, stable_touching) = self.sums(Release::Stable, stratum);
        let (canary_within, canary_touching) = self.sums(Release::Canary, stratum);
        let covers = |pod: &&Scraped| pod.since <= self.since && pod.until >= self.until;
        let of_canary = self.pods.iter().filter(|((release, _), _)| *release == Release::Canary);
        let restarts: u64 = of_canary.map(|(_, pod)| pod).filter(covers).map(|pod| pod.restarts).sum();
        let table_of = |failures: Counts, requests: u64| Counts {
            requests: requests.max(failures.failures),
            ..failures
        };
        let worse = Table {
            reference: table_of(stable_touching, stable_within.requests),
            // the successes that it counted just before a restart are lost
            suspect: table_of(canary_within, canary_touching.requests + restarts * self.typical),
        };
        let ratio = Table {
            reference: table_of(stable_within, stable_touching.requests),
            suspect: table_of(canary_touching, canary_within.requests),
        };
        // failures that the canary counted just before a restart are lost
        let ratio = if restarts == 0 { ratio } else { Table::default() };
        let (up, down) = self.share_moved(None);
        let (more_up, more_down) = stratum.map_or((0.0, 0.0), |_| self.share_moved(stratum));
        Tables { worse, ratio, share_moved: (up.max(more_up), down.max(more_down)) }
    }

    /// All requests of both sides, in parts of about the same time.
    fn totals(&self) -> Vec<Counts> {
        let mut totals = vec![Counts::default(); self.moments.len() + 1];
        for Kept { window, .. } in &self.touching {
            let middle = f64::midpoint(window.since, window.until);
            totals[self.moments.partition_point(|(_, end)| *end < middle)] += window.counts;
        }
        totals
    }

    /// How far the odds of the canary's share of a stratum, or of all, moved up and down between the moments, compared with
    /// the whole time: the logarithms, at least 0. Only sizes matter. Requests are taken to be spread evenly over their
    /// window.
    fn share_moved(&self, stratum: Option<usize>) -> (f64, f64) {
        let requests = |since: f64, until: f64| {
            let mut sides = [0.0, 0.0];
            for kept in self.touching.iter().filter(|kept| self.pod_of(&kept.window).is_some()) {
                let Window { release, since: from, until: to, .. } = kept.window;
                let shared = (to.min(until) - from.max(since)).max(0.0);
                let part = shared / (to - from);
                sides[usize::from(release == Release::Canary)] += part * real(kept.counts(stratum).requests);
            }
            sides
        };
        let sizes: Vec<_> = self.moments.iter().map(|(since, until)| requests(*since, *until)).collect();
        let [stable, canary] =
            sizes.iter().fold([0.0, 0.0], |[stable, canary], size| [stable + size[0], canary + size[1]]);
        let (mut up, mut down) = (0.0_f64, 0.0_f64);
        if stable == 0.0 || canary == 0.0 {
            return (0.0, 0.0); // the table has no information
        }
        for [of_stable, of_canary] in sizes {
            // one side without requests, although the other one's make that improbable: the share was 1, or 0
            if of_stable < 1.0 && of_canary * stable / canary > SURELY {
                up = f64::INFINITY;
            } else if of_canary < 1.0 && of_stable * canary / stable > SURELY {
                down = f64::INFINITY;
            } else if of_stable > 0.0 && of_canary > 0.0 {
                let moved = (of_canary / of_stable).ln() - (canary / stable).ln();
                let noise = NOISE * (1.0 / of_canary + 1.0 / of_stable).sqrt();
                up = up.max(moved - noise);
                down = down.max(-moved - noise);
            }
        }
        (up, down)
    }
}

/// A movement of the share counts as far as it is more than this many standard errors.
const NOISE: f64 = 2.0;

/// If so many requests of a side are expected, and there are none, that is no chance: its probability is e^−6.
const SURELY: f64 = 6.0;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{odds::GREATER, testing::counts};

    fn window(release: Release, pod: &str, since: f64, until: f64, counts: Counts) -> Window {
        let (pod, restarted, is_warm_up) = (pod.into(), false, false);
        let (strata, latencies) = (Vec::new(), Vec::new());
        Window { release, pod, since, until, counts, restarted, is_warm_up, strata, latencies }
    }

    fn stable(pod: &str, since: f64, until: f64, counts: Counts) -> Window {
        window(Release::Stable, pod, since, until, counts)
    }

    fn canary(since: f64, until: f64, counts: Counts) -> Window {
        window(Release::Canary, "canary", since, until, counts)
    }

    fn kept(windows: impl IntoIterator<Item = Window>) -> VecDeque<Kept> {
        windows.into_iter().map(|window| Kept::new(window, Vec::new())).collect()
    }

    fn tables(windows: &[Window], since: f64, until: f64) -> Tables {
        Bracket::new(&kept(windows.iter().cloned()), "canary", since, until, 10).tables(None)
    }

    #[test]
    fn stable_has_the_failures_that_touch_a_batch_and_the_requests_within_it() {
        let windows = [
            canary(0.0, 10.0, counts(1, 10)),
            canary(10.0, 20.0, counts(2, 10)),
            canary(20.0, 30.0, counts(4, 10)),
            stable("one", -5.0, 5.0, counts(1, 30)),
            stable("one", 5.0, 15.0, counts(2, 30)),
            stable("one", 15.0, 25.0, counts(4, 30)),
            stable("one", 25.0, 35.0, counts(8, 30)),
        ];
        let tables = tables(&windows, 0.0, 20.0);
        assert_eq!(tables.worse, Table { reference: counts(7, 30), suspect: counts(3, 20) });
        assert_eq!(tables.ratio, Table { reference: counts(2, 90), suspect: counts(3, 20) });
    }

    #[test]
    fn a_batch_in_which_one_release_gets_all_requests_for_a_while_is_no_evidence() {
        let both = |since: f64, stable_requests, canary_requests| {
            let until = since + 10.0;
            [
                stable("one", since, until, counts(0, stable_requests)),
                canary(since, until, counts(0, canary_requests)),
            ]
        };
        let moved =
            |second: [Window; 2]| tables(&[both(0.0, 30, 30), second].concat(), 0.0, 20.0).share_moved;
        assert!(moved(both(10.0, 0, 60)).0 == f64::INFINITY);
        assert!(moved(both(10.0, 60, 0)).1 == f64::INFINITY);
        assert_eq!(moved(both(10.0, 0, 4)), (0.0, 0.0), "that may be chance");
        let mut test = crate::odds::OddsTest::new(1.0, GREATER);
        let all_of_an_incident = Table { reference: counts(0, 30), suspect: counts(60, 90) };
        test.observe_with_share(all_of_an_incident, f64::INFINITY);
        assert!(test.ln_e_value().abs() < 1e-12, "{}", test.ln_e_value());
    }

    #[test]
    fn stable_has_at_least_as_many_requests_as_failures() {
        let windows = [canary(0.0, 10.0, counts(0, 10)), stable("one", -5.0, 15.0, counts(30, 30))];
        assert_eq!(tables(&windows, 0.0, 10.0).worse.reference, counts(30, 30));
    }

    /// Its share of the requests would change within the batch, perhaps together with an incident.
    #[test]
    fn a_pod_that_was_not_scraped_in_all_of_a_batch_is_not_part_of_it() {
        let windows = [
            canary(0.0, 20.0, counts(0, 10)),
            stable("new", 5.0, 25.0, counts(1, 10)),
            stable("gone", -5.0, 15.0, counts(1, 10)),
            stable("restarted", -5.0, 25.0, counts(1, 10)),
            stable("there", -5.0, 25.0, counts(2, 20)),
        ];
        let mut windows = windows.to_vec();
        windows[3].restarted = true;
        assert_eq!(tables(&windows, 0.0, 20.0).worse.reference, counts(2, 2));
    }

    #[test]
    fn what_a_canary_counts_before_a_restart_is_taken_for_successes_and_never_promotes_it() {
        let mut windows = [canary(0.0, 20.0, counts(5, 5)), stable("there", 0.0, 20.0, counts(0, 30))];
        windows[0].restarted = true;
        let tables = tables(&windows, 0.0, 20.0);
        assert_eq!(tables.worse.suspect, counts(5, 15));
        assert_eq!(tables.ratio, Table::default());
    }

    /// A pod that crashes soon after its first scrape, one whose scrapes fail for a minute before it ends, and pods that
    /// go on.
    #[test]
    fn pods_that_are_gone_delay_the_comparison_by_a_few_scrapes_only() {
        let crashed = [stable("crashed", 5.0, 5.0, counts(0, 0))];
        let slow = [
            stable("slow", 0.0, 10.0, counts(0, 10)),
            stable("slow", 10.0, 20.0, counts(0, 10)),
            stable("slow", 20.0, 80.0, counts(0, 10)),
        ];
        for mut gone in [crashed.to_vec(), slow.to_vec()] {
            let mut scrapes = Scrapes::new(Settings::default());
            for number in 0..20 {
                let (since, until) = (10.0 * f64::from(number), 10.0 * f64::from(number + 1));
                let (before, after): (Vec<_>, Vec<_>) = gone.into_iter().partition(|one| one.until <= until);
                gone = after;
                let there = stable("there", since, until, counts(0, 30));
                scrapes.observe(
                    kept(before.into_iter().chain([there, canary(since, until, counts(0, 10))])),
                    None,
                );
            }
            let compared = scrapes.comparisons()[0].stable_beside_canary();
            assert!(compared >= 15 * 30, "{compared}");
        }
    }

    /// A pod of the canary, and a window of 10 s for each count.
    fn observed(counts_of_windows: impl IntoIterator<Item = Counts>) -> Scrapes {
        let mut scrapes = Scrapes::new(Settings::default());
        scrapes.observe(kept([canary(0.0, 0.0, counts(0, 0)), stable("one", 5.0, 5.0, counts(0, 0))]), None);
        for (number, of_canary) in (0..).zip(counts_of_windows) {
            let since = f64::from(number) * 10.0;
            scrapes.observe(kept([canary(since, since + 10.0, of_canary)]), None);
            scrapes.observe(kept([stable("one", since + 5.0, since + 15.0, counts(0, 30))]), None);
        }
        scrapes
    }

    #[test]
    fn a_canary_that_fails_everything_is_found_in_short_batches() {
        let scrapes = observed(std::iter::repeat_n(counts(10, 10), 6));
        assert!(scrapes.comparisons()[0].peak_ln_e_value() > 20_f64.ln());
        assert!(scrapes.comparisons()[3].peak_ln_e_value() < 0.0, "its first batch is open");
    }

    #[test]
    fn windows_are_kept_only_as_long_as_a_batch_needs_them() {
        let scrapes = observed(std::iter::repeat_n(counts(0, 10), 10_000));
        assert!(scrapes.windows.len() < 100, "{}", scrapes.windows.len());
        let scrapes = observed(std::iter::repeat_n(counts(0, 0), 10_000));
        assert!(scrapes.windows.len() < 100, "{}", scrapes.windows.len());
    }

    #[test]
    fn windows_are_bounded_after_the_canary_has_gone() {
        let mut scrapes = observed([counts(0, 10)]);
        for number in 2..100_000 {
            let since = f64::from(number) * 10.0 + 5.0;
            scrapes.observe(kept([stable("one", since, since + 10.0, counts(0, 30))]), None);
        }
        assert!(scrapes.windows.len() <= 1000, "{}", scrapes.windows.len());
        assert!(scrapes.pods.len() <= 2);
    }

    #[test]
    fn another_pod_of_the_canary_leads_once_the_lead_is_gone() {
        let mut scrapes = observed(std::iter::repeat_n(counts(0, 10), 5));
        let next = |since: f64| window(Release::Canary, "next", since, since + 10.0, counts(10, 10));
        scrapes.observe(kept([window(Release::Canary, "next", 52.0, 52.0, counts(0, 0))]), None);
        for number in 0..20 {
            let since = 52.0 + f64::from(number) * 10.0;
            scrapes
                .observe(kept([next(since), stable("one", since + 3.0, since + 13.0, counts(0, 30))]), None);
        }
        assert_eq!(scrapes.lead.as_deref(), Some("next"));
        assert!(scrapes.comparisons()[0].peak_ln_e_value() > 20_f64.ln());
    }

    /// The requests of a pod: the moment and the outcome of each. It is scraped at these moments.
    #[derive(Clone, Debug)]
    struct Requests {
        /// The time, the stratum, and whether it has failed.
        requests: Vec<(f64, usize, bool)>,
        scrapes: Vec<f64>,
    }

    impl Requests {
        /// The counts of a stratum, or of all.
        fn counts(&self, since: f64, until: f64, of: Option<usize>) -> Counts {
            let during = self.requests.iter().filter(|(at, stratum, _)| {
                *at > since && *at <= until && of.is_none_or(|wanted| wanted == *stratum)
            });
            during.fold(Counts::default(), |sum, (.., failed)| sum + counts(u64::from(*failed), 1))
        }

        fn windows(&self, release: Release, pod: &str) -> Vec<Kept> {
            let pairs = self.scrapes.windows(2).map(|pair| (pair[0], pair[1]));
            let kept = |(since, until)| {
                let parts = [0, 1].map(|stratum| (stratum, self.counts(since, until, Some(stratum))));
                Kept::new(window(release, pod, since, until, self.counts(since, until, None)), parts.to_vec())
            };
            pairs.map(kept).collect()
        }
    }

    fn requests() -> impl Strategy<Value = Requests> {
        let requests = prop::collection::vec((0.0..100.0_f64, 0..2_usize, any::<bool>()), 0..40);
        (requests, prop::collection::vec(5.0..95.0_f64, 2..12)).prop_map(|(requests, mut scrapes)| {
            scrapes.extend([0.0, 100.0]);
            scrapes.sort_by(f64::total_cmp);
            Requests { requests, scrapes }
        })
    }

    fn ln_ratio(table: Table, null: f64, alternative: f64) -> f64 {
        let mut test = crate::odds::OddsTest::new(null, [alternative]);
        test.observe(table);
        test.ln_e_value()
    }

    proptest! {
        /// The claim in the documentation of this module, whatever the moments of requests and scrapes are.
        #[test]
        fn the_bracket_is_never_more_evidence_than_the_exact_table(
            stable in prop::collection::vec(requests(), 1..4),
            canary in prop::collection::vec(requests(), 1..3),
            (begin, end) in (0..11_usize, 1..12_usize),
        ) {
            let lead = &canary[0].scrapes;
            let (begin, end) = (begin % (lead.len() - 1), end);
            let (since, until) = (lead[begin], lead[(begin + end).min(lead.len() - 1)]);
            let windows = |pods: &[Requests], release| -> Vec<Kept> {
                pods.iter().enumerate().flat_map(|(pod, it)| it.windows(release, &pod.to_string())).collect()
            };
            let all: VecDeque<_> =
                [windows(&stable, Release::Stable), windows(&canary, Release::Canary)].concat().into();
            let bracket = Bracket::new(&all, "0", since, until, 0);
            for stratum in [None, Some(0), Some(1)] {
                let exact = |pods: &[Requests]| pods.iter().map(|pod| pod.counts(since, until, stratum)).sum();
                let exact = Table { reference: exact(&stable), suspect: exact(&canary) };
                let Tables { worse, ratio, .. } = bracket.tables(stratum);
                for odds in GREATER {
                    prop_assert!(
                        ln_ratio(worse, 1.0, odds) <= ln_ratio(exact, 1.0, odds) + 1e-9,
                        "{stratum:?} {worse:?} {exact:?}"
                    );
                }
                for odds in [0.125, 0.5, 1.3] {
                    prop_assert!(
                        ln_ratio(ratio, 2.0, odds) <= ln_ratio(exact, 2.0, odds) + 1e-9,
                        "{stratum:?} {ratio:?} {exact:?}"
                    );
                }
            }
        }
    }
}
