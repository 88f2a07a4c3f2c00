//! The rules for promotion and roll-back.

use std::{mem, slice};

use serde::{Deserialize, Serialize};

use crate::{
    Batch, Counts, Release, alpha,
    batch::BatchLength,
    bounds::{ConfidenceSequence, Interval},
    by_limit::ByLimit,
    comparison::{Comparison, Tables, Within},
    episodes::Episodes,
    latency::Latencies,
    order::{Order, Request},
    pods::PodComparison,
    scrapes::{Kept, Scrapes, Window},
    settings::Settings,
    share::{self, Share},
    spread,
    strata::{Complete, Strata, Stratum},
    verdict::{
        self, Decision, Estimate, Evidence, FailingPods, Latency, PodSpans, Reason, StratumEvidence, Verdict,
    },
    warm_up::WarmUp,
};

/// Judges a canary that runs beside the stable release, by the outcomes of their requests.
///
/// Outcomes come in the order in which the requests were sent. They form [batches](Batch). The verdict uses only
/// complete batches; [`Judge::end`] completes the last one.
///
/// - Roll back when the canary is worse than stable: it has more of the failures than its share of the requests
///   explains. A common cause that hits both releases does not matter. The error probability is α.
/// - Promote when the canary fails at most [`max_failure_rate`](Settings::max_failure_rate). Or promote when
///   stable fails more than that, and the canary fails at most [`max_ratio`](Settings::max_ratio) times as
///   often. These two ways share α.
/// - Hold when both releases fail more than the limit, with no clear difference between them.
///
/// A failure that names no release may be a failure of the canary, or not. So it counts against the canary for a
/// promotion, and it does not count for a roll-back. A success that names no release does not count.
///
/// If requests name their stratum, such as a path, only those of the same stratum are compared with each other: the canary is
/// worse if it is worse in one of them, or in all of them together. The first request decides whether they are divided. The
/// promotion by the limit is over all requests, divided or not.
///
/// A roll-back is final. A promotion can change to a roll-back, but to nothing else.
///
/// What is serialized is the evidence. What waits for requests under way, and scrapes that are not compared yet, are left
/// out: call [`Judge::resume`] after reading it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Judge {
    settings: Settings,
    /// Everything that was counted.
    counted: Batch,
    /// The part of it that the verdict rests on.
    judged: Batch,
    #[serde(skip)]
    order: Order,
    open: Batch,
    length: BatchLength,
    /// The number of requests in the open batch so far, and the number at which it is complete.
    requests: (u64, u64),
    /// The strata, if requests are divided. Each has batches of its own, and those above are of all of them together.
    strata: Option<Strata>,
    compared: Compared,
    by_limit: ByLimit,
    latencies: Latencies,
    /// The evidence from episodes of failures, if the settings say so.
    episodes: Option<Box<Episodes>>,
    /// What is left out of pods that have just started, if the settings say so.
    warm_up: Option<Box<WarmUp>>,
    share: Share,
    stable_pods: PodComparison,
    canary_pods: PodComparison,
    /// Restarts of the canary's pods.
    restarts: u64,
    roll_back: Option<Evidence>,
    /// Whether the roll-back is because the canary is slower.
    is_rolled_back_as_slower: bool,
    promote: Option<(Reason, Evidence)>,
}

/// The evidence from the comparison with stable.
#[derive(Clone, Debug, Deserialize, Serialize)]
enum Compared {
    /// From batches of requests, or of counters of the same time.
    Batches(Box<Comparison>),
    /// From counters that are scraped at different moments.
    Scrapes(Box<Scrapes>),
}

impl Compared {
    fn comparisons(&self) -> &[Comparison] {
        match self {
            Self::Batches(comparison) => slice::from_ref(comparison),
            Self::Scrapes(scrapes) => scrapes.comparisons(),
        }
    }

    fn comparisons_mut(&mut self) -> &mut [Comparison] {
        match self {
            Self::Batches(comparison) => slice::from_mut(comparison),
            Self::Scrapes(scrapes) => scrapes.comparisons_mut(),
        }
    }
}

/// Stable's pods differ as much as the releases do if one stable pod stands out, and its failure rate is at
/// least this part of the canary's. In simulations, this does not delay the roll-back of a canary that is
/// really worse.
const AS_MUCH: f64 = 1.0 / 3.0;

impl Judge {
    /// A judge without outcomes.
    pub fn new(settings: Settings) -> Self {
        let length = BatchLength::UNKNOWN;
        Self {
            settings,
            counted: Batch::default(),
            judged: Batch::default(),
            order: Order::default(),
            open: Batch::default(),
            length,
            requests: (0, length.requests()),
            strata: None,
            compared: Compared::Batches(Box::new(Comparison::new(settings, 1.0))),
            by_limit: ByLimit::new(settings),
            latencies: Latencies::new(settings.latency_factor()),
            episodes: settings.episodes.map(|longest| Box::new(Episodes::new(longest))),
            warm_up: settings.warm_up.map(|_| Box::new(WarmUp::new(settings))),
            share: Share::UNKNOWN,
            stable_pods: PodComparison::new(settings.alpha.get()),
            canary_pods: PodComparison::new(settings.alpha.get()),
            restarts: 0,
            roll_back: None,
            is_rolled_back_as_slower: false,
            promote: None,
        }
    }

    /// Adds the request with this number in the order of sending, from 0, when it has ended: `None` if it does not
    /// count. It counts at once, and is judged when all requests before it have ended. A number that was added before
    /// changes nothing.
    pub fn observe_numbered(&mut self, number: u64, request: Option<Request<'_>>) {
        let mut order = mem::take(&mut self.order);
        let is_new = order.add(number, request, |request| self.judge(request));
        self.order = order;
        if let Some(request) = request.filter(|_| is_new) {
            self.counted.record(request.release, request.outcome);
        }
    }

    /// Adds the next request in the order of sending.
    pub fn observe(&mut self, request: Request<'_>) {
        self.counted.record(request.release, request.outcome);
        self.judge(request);
    }

    /// Adds the counts of one interval of time, as a batch of its own.
    pub fn observe_batch(&mut self, batch: Batch) {
        self.counted += batch;
        self.divide_if(false);
        if self.strata.is_some() {
            return self.judge_batch(None, batch);
        }
        self.end_batch();
        self.open = batch;
        self.end_batch();
    }

    /// Adds the counts of one stratum in one interval of time, as a batch of its own. Counts of several strata that follow
    /// each other are taken to be of the same interval, until one of them comes again.
    pub fn observe_batch_of(&mut self, stratum: &str, batch: Batch) {
        self.divide_if(true);
        if self.strata.is_none() {
            return self.observe_batch(batch);
        }
        self.counted += batch;
        self.judge_batch(Some(stratum), batch);
    }

    /// Adds the increases of counters that are scraped at different moments. They are judged at once, but compared only
    /// when other pods were scraped, too. A judge compares either these or requests: what comes second is not compared.
    pub fn observe_scrapes(&mut self, windows: impl IntoIterator<Item = Window>) {
        if matches!(self.compared, Compared::Batches(_)) && self.counted == Batch::default() {
            self.compared = Compared::Scrapes(Box::new(Scrapes::new(self.settings)));
        }
        let mut windows: Vec<_> = windows.into_iter().collect();
        let (mut counted, mut judged, mut restarts) = (Batch::default(), Batch::default(), 0);
        let (by_limit, warm_up) = (&mut self.by_limit, &mut self.warm_up);
        for window in &mut windows {
            counted.add(window.release, window.counts);
            window.is_warm_up = warm_up.as_mut().is_some_and(|warm_up| warm_up.observe_window(window));
            if !window.is_warm_up {
                judged.add(window.release, window.counts);
                by_limit.observe_window(window);
            }
            restarts += u64::from(window.restarted && window.release == Release::Canary);
        }
        self.observe_episodes(&windows);
        self.divide_if(windows.iter().any(|window| !window.is_warm_up && !window.strata.is_empty()));
        let strata = &mut self.strata;
        let kept = windows.into_iter().map(|window| {
            let strata = strata.as_mut().filter(|_| !window.is_warm_up);
            let parts = strata.map(|strata| strata.judge_window(&window)).unwrap_or_default();
            Kept::new(window, parts)
        });
        let kept: Vec<_> = kept.collect();
        let known = self.strata.as_ref().map(Strata::known);
        let scraped = match &mut self.compared {
            Compared::Scrapes(scrapes) => {
                scrapes.observe(kept, known);
                scrapes.scraped_until()
            }
            Compared::Batches(_) => f64::INFINITY,
        };
        self.by_limit.settle(scraped);
        if let Compared::Scrapes(scrapes) = &mut self.compared
            && scrapes.all_have_ended()
        {
            self.share.all_batches_end(self.by_limit.bound());
        }
        if let Some(warm_up) = &mut self.warm_up {
            warm_up.settle(scraped);
        }
        self.counted += counted;
        self.judged += judged;
        self.restarts += restarts;
        self.decide();
    }

    fn observe_episodes(&mut self, windows: &[Window]) {
        let (Some(episodes), Compared::Scrapes(scrapes)) = (&mut self.episodes, &self.compared) else {
            return;
        };
        episodes.observe_windows(windows, scrapes.interval());
        for window in windows.iter().filter(|window| !window.is_warm_up) {
            self.pods_mut(window.release).add(&window.pod, window.counts);
        }
    }

    /// Adds restarts of the canary's pods that counters do not tell. They are part of the verdict, and decide nothing.
    pub fn observe_restarts(&mut self, restarts: u64) {
        self.restarts += restarts;
    }

    /// Call this when the canary's warm-up has lasted for some time, such as half of [`Settings::warm_up`] since its first
    /// answer that is left out. From then on, a canary that has failed all of these answers can be rolled back. Earlier, it
    /// is not, because a pod that fails for a moment is not dead.
    pub fn trust_warm_up(&mut self) {
        if let Some(warm_up) = &mut self.warm_up {
            warm_up.trust();
            self.decide();
        }
    }

    /// Call this when no more outcomes will come: the last batch then counts, even if it is incomplete.
    pub fn end(&mut self) {
        self.stable_pods.end_batch();
        self.canary_pods.end_batch();
        self.latencies.end_batches();
        self.end_episodes();
        if let Some(warm_up) = &mut self.warm_up {
            warm_up.end();
        }
        self.end_batches_of_strata();
        self.end_batch();
        if let Compared::Scrapes(scrapes) = &mut self.compared {
            scrapes.end(self.strata.as_ref().map(Strata::known));
            self.by_limit.settle(f64::INFINITY);
            self.decide();
        }
    }

    /// Goes on after an interruption, with a judge that was read. What was in the open batches is judged: a batch has
    /// requests of about the same time, so none goes on after it. What has waited for requests under way keeps waiting,
    /// because those will not end, and to judge only what has ended would favour the release that answers sooner. The
    /// numbers of requests begin at 0 again. `false` if it cannot be a judge's: it has judged more than was counted.
    pub fn resume(&mut self) -> bool {
        let (judged, open, counted, left_out) = (self.judged, self.open, self.counted, self.left_out());
        let sides = [
            [judged.stable, open.stable, left_out.stable, counted.stable],
            [judged.canary, open.canary, left_out.canary, counted.canary],
            [judged, open, left_out, counted].map(|batch| Counts::all_failed(batch.unattributed)),
        ];
        let valid = |counts: &Counts| counts.slow <= counts.failures && counts.failures <= counts.requests;
        let fits = |[one, two, three, all]: [u64; 4]| {
            let sum = one.checked_add(two).and_then(|sum| sum.checked_add(three));
            sum.is_some_and(|sum| sum <= all)
        };
        let is_sound = sides.iter().all(|side| {
            side.iter().all(valid)
                && fits(side.map(|counts| counts.requests))
                && fits(side.map(|counts| counts.failures))
                && fits(side.map(|counts| counts.slow))
        });
        let latencies_are_sound = match &self.compared {
            Compared::Batches(_) => self.latencies.is_sound(),
            Compared::Scrapes(scrapes) => scrapes.latencies().is_sound(),
        };
        let are_strata_sound = self.strata.as_ref().is_none_or(|strata| strata.are_sound(judged, open));
        if !(is_sound && latencies_are_sound && are_strata_sound) {
            return false;
        }
        self.order = Order::default();
        self.stable_pods.end_batch();
        self.canary_pods.end_batch();
        self.latencies.end_batches();
        self.end_episodes();
        self.by_limit.settle(f64::INFINITY);
        if let Some(warm_up) = &mut self.warm_up {
            warm_up.settle(f64::INFINITY);
        }
        self.end_batches_of_strata();
        self.end_batch();
        true
    }

    /// Takes over what decides nothing of these settings: [`Settings::slo`] and [`Settings::max_burn`].
    pub fn allow(&mut self, like: Settings) {
        let Settings { slo, max_burn, .. } = like;
        self.settings = Settings { slo, max_burn, ..self.settings };
    }

    /// Forgets all outcomes. Requests that were sent before, and have not ended, must be passed as `None`.
    pub fn reset(&mut self) {
        let mut order = mem::take(&mut self.order);
        order.discard();
        *self = Self { order, ..Self::new(self.settings) };
    }

    /// Divides requests into strata, if these are the first ones.
    fn divide_if(&mut self, has_stratum: bool) {
        let none = Batch::default();
        if has_stratum && self.strata.is_none() && self.judged == none && self.open == none {
            self.strata = Some(Strata::default());
            self.compared.comparisons_mut().iter_mut().for_each(Comparison::divide);
        }
    }

    fn judge(&mut self, request: Request<'_>) {
        let Request { release, outcome, pod, stratum, .. } = request;
        if self.warm_up.as_mut().is_some_and(|warm_up| warm_up.observe(request)) {
            if self.fails_all_of_its_warm_up() {
                self.decide();
            }
            return;
        }
        let is_timed = self.latencies.observe(&request);
        if let (Some(episodes), Compared::Batches(_)) = (&mut self.episodes, &self.compared) {
            episodes.observe(&request);
        }
        self.divide_if(stratum.is_some());
        self.open.record(release, outcome);
        if let (Some(release), Some(pod)) = (release, pod) {
            self.pods_mut(release).observe(pod, outcome);
        }
        self.requests.0 += 1;
        let complete = self.strata.as_mut().and_then(|strata| {
            let place = strata.place(stratum);
            strata.record(place, release, outcome)
        });
        let is_worse = complete.is_some_and(|complete| self.compare(&complete));
        if is_worse || self.requests.0 >= self.requests.1 {
            self.end_batch();
        } else if is_timed {
            self.decide();
        }
    }

    fn judge_batch(&mut self, stratum: Option<&str>, batch: Batch) {
        let Some(strata) = &mut self.strata else { return };
        let place = strata.place(stratum);
        let before = strata.end_batch_of(place);
        let is_of_next = strata.waits(place);
        let mut is_worse = self.compare(&before);
        if is_of_next || is_worse {
            self.end_batch();
        }
        self.open += batch;
        if let Some(strata) = &mut self.strata {
            strata.add(place, batch);
            let complete = strata.end_batch_of(place);
            is_worse = self.compare(&complete);
        }
        if is_worse {
            self.end_batch();
        }
    }

    /// Compares the releases in a batch of a stratum. Whether the canary is now first worse: then the batch of all strata
    /// ends, so that what is judged is all that the evidence has.
    fn compare(&mut self, Complete { stratum, batch, has_incident }: &Complete) -> bool {
        let known = self.strata.as_ref().map_or(1, Strata::known);
        if let Compared::Batches(comparison) = &mut self.compared {
            let has_incident = *has_incident || comparison.is_incident_with(self.open.total());
            let within = Within { stratum: *stratum, known, has_incident };
            comparison.observe(within, &Tables::of_batch(batch));
        }
        self.roll_back.is_none() && self.is_worse()
    }

    fn end_batches_of_strata(&mut self) {
        let complete = self.strata.as_mut().map(Strata::end_batches).unwrap_or_default();
        for complete in complete {
            self.compare(&complete);
        }
    }

    fn end_batch(&mut self) {
        let batch = mem::take(&mut self.open);
        self.length.update(&batch);
        self.requests = (0, self.length.requests());
        self.judged += batch;
        self.by_limit.observe(batch);
        if let Compared::Batches(comparison) = &mut self.compared {
            let has_incident = comparison.see_totals(&[batch.total()]);
            if let Some(strata) = &mut self.strata {
                strata.end_batch_of_all(has_incident);
            } else {
                let within = Within { stratum: 0, known: 1, has_incident };
                comparison.observe(within, &Tables::of_batch(&batch));
            }
        }
        self.decide();
    }

    fn decide(&mut self) {
        let Batch { stable, canary, unattributed } = self.judged;
        let clear =
            || Evidence { canary, stable, unattributed, by_limit: self.by_limit.basis(), warm_up: None };
        if self.roll_back.is_none() && self.fails_all_of_its_warm_up() {
            self.roll_back =
                Some(Evidence { warm_up: self.warm_up.as_ref().map(|it| it.canary()), ..clear() });
        }
        if self.roll_back.is_none() && self.is_worse() && !self.pods_differ_as_much() {
            self.roll_back = Some(clear());
        }
        if self.roll_back.is_none() && self.is_slower() {
            (self.roll_back, self.is_rolled_back_as_slower) = (Some(clear()), true);
        }
        let is_enough = self.missing_stable_answers() == 0
            && self.missing_scrapes() == 0
            && self.missing_in_strata().all(|missing| missing == 0);
        if self.promote.is_none() && is_enough {
            let reason = if self.by_limit.is_shown() {
                Some(Reason::Limit)
            } else {
                self.compared.comparisons().iter().any(Comparison::shows_ratio).then_some(Reason::Ratio)
            };
            self.promote = reason.map(|reason| (reason, clear()));
        }
    }

    /// What is left out of pods that have just started.
    fn left_out(&self) -> Batch {
        self.warm_up.as_ref().map_or_else(Batch::default, |warm_up| warm_up.left_out())
    }

    /// The natural logarithm of the greatest e-value so far that the canary is dead while it starts; at least 0.
    fn warm_up_ln_e_value(&self) -> f64 {
        self.warm_up.as_ref().map_or(0.0, |warm_up| warm_up.peak_ln_e_value())
    }

    /// Whether the canary has failed everything while its pods were new, and stable has no pod that is nearly as bad.
    fn fails_all_of_its_warm_up(&self) -> bool {
        self.warm_up_ln_e_value() >= -self.settings.alpha.get().ln()
            && !self.stable_pods.any_fails_at(AS_MUCH)
    }

    /// Whether the canary has more of the failures than its share of the requests explains, and of the episodes if they count.
    fn is_worse(&self) -> bool {
        self.comparison_ln_e_value() >= -self.settings.alpha.get().ln()
    }

    /// The natural logarithm of the greatest e-value of the comparison so far; at least 0. If episodes count, it is the
    /// smaller one of requests and of episodes.
    fn comparison_ln_e_value(&self) -> f64 {
        self.requests_ln_e_value().min(self.episodes_ln_e_value().unwrap_or(f64::INFINITY))
    }

    /// The natural logarithm of the greatest e-value of requests so far; at least 0.
    fn requests_ln_e_value(&self) -> f64 {
        self.compared.comparisons().iter().map(Comparison::peak_ln_e_value).fold(0.0, f64::max)
    }

    /// The same of episodes, times the part of α. `None` if they do not count.
    fn episodes_ln_e_value(&self) -> Option<f64> {
        let episodes = self.episodes.as_ref().filter(|episodes| episodes.are_known())?;
        Some((episodes.peak_ln_e_value() + alpha::failures(self.settings).ln()).max(0.0))
    }

    /// What the verdict says of episodes.
    fn episodes(&self) -> Option<verdict::Episodes> {
        let ln_e_value = self.episodes_ln_e_value()?;
        let span = self.episodes.as_ref()?.span();
        let spans = |release, pods: &PodComparison| {
            let Counts { requests, failures, .. } =
                self.episodes.as_ref().map(|episodes| episodes.units(release)).unwrap_or_default();
            PodSpans { pods: pods.totals().len(), spans: requests, failing: failures }
        };
        Some(verdict::Episodes {
            canary: spans(Release::Canary, &self.canary_pods),
            stable: spans(Release::Stable, &self.stable_pods),
            span,
            ln_e_value,
            decide: self.requests_ln_e_value() >= -self.settings.alpha.get().ln() && !self.is_worse(),
        })
    }

    fn end_episodes(&mut self) {
        if let Some(episodes) = &mut self.episodes {
            episodes.end();
        }
    }

    /// Whether the canary is slower than the settings allow.
    fn is_slower(&self) -> bool {
        self.settings.slower_by.is_some() && self.latency_ln_e_value() >= -self.settings.alpha.get().ln()
    }

    /// The same for the test whether the canary is slower.
    fn latency_ln_e_value(&self) -> f64 {
        let peak = match &self.compared {
            Compared::Batches(_) => self.latencies.peak_ln_e_value(),
            Compared::Scrapes(scrapes) => scrapes.latencies().peak_ln_e_value(),
        };
        (peak + alpha::latency(self.settings).ln()).max(0.0)
    }

    /// What is known about the latencies; `None` if no latency of either release is known.
    fn latency(&self) -> Option<Latency> {
        let both = [Release::Canary, Release::Stable];
        let ([canary, stable], compared, slower) = match &self.compared {
            Compared::Batches(_) => {
                let latencies = &self.latencies;
                let percentiles = both.map(|release| latencies.percentiles(release));
                (percentiles, latencies.compared(), latencies.clearest())
            }
            Compared::Scrapes(scrapes) => {
                let latencies = scrapes.latencies();
                let percentiles = both.map(|release| latencies.percentiles(release));
                (percentiles, latencies.compared(), latencies.clearest())
            }
        };
        let ln_e_value = self.latency_ln_e_value();
        (canary.answers + stable.answers > 0).then(|| Latency {
            canary,
            stable,
            compared,
            slower,
            ln_e_value,
            p_value: (-ln_e_value).exp(),
            decides: self.settings.slower_by.is_some(),
            rolled_back: self.is_rolled_back_as_slower,
        })
    }

    /// Whether stable's own pods differ as much as the canary does from stable, in one of two ways.
    fn pods_differ_as_much(&self) -> bool {
        let are_spread = self.episodes_ln_e_value().is_some() && {
            // all answers of the canary: failures may not name their pod
            let (canary, pods) = (self.judged.canary.rate().unwrap_or(0.0), self.canary_pods.totals().len());
            let stable = spread::rates(self.stable_pods.totals());
            !spread::is_exceeded(&stable, canary, pods, self.settings.alpha.get())
        };
        are_spread || self.stable_pods_differ_as_much()
    }

    /// Whether stable's own pods differ as much as the canary does from stable. If so, the cause may be the
    /// pod, its node, or clients that always reach the same pod.
    fn stable_pods_differ_as_much(&self) -> bool {
        let worse = |place: &usize| self.is_worse_in(*place);
        let strata = self.strata.as_ref().map_or(&[][..], Strata::all);
        let in_worse: Counts = (0..strata.len()).filter(worse).map(|place| strata[place].judged.canary).sum();
        // where it is worse in one stratum, its rate over all says little
        let canary = in_worse.rate().or(self.judged.canary.rate()).unwrap_or(0.0);
        self.stable_pods.any_fails_at(AS_MUCH * canary)
    }

    /// Whether the canary is worse in this stratum alone. The probability that any is called so, although the canary is no
    /// worse than stable in any, is at most α. While there is one stratum, it is worse there if it is worse at all.
    fn is_worse_in(&self, place: usize) -> bool {
        let known = self.strata.as_ref().map_or(1, Strata::known);
        if known == 1 {
            return self.is_worse();
        }
        let ln_threshold = -self.settings.alpha.get().ln();
        let shows = |comparison: &Comparison| comparison.peak_of(place, known)[1] >= ln_threshold;
        self.compared.comparisons().iter().any(shows)
    }

    /// For each stratum that stable has seen: the number of answers of the canary that a promotion still needs.
    fn missing_in_strata(&self) -> impl Iterator<Item = u64> {
        let strata = self.strata.as_ref().map_or(&[][..], Strata::all);
        strata.iter().map(|one| self.missing_in(one.judged))
    }

    fn missing_in(&self, of_stratum: Batch) -> u64 {
        let enough = if of_stratum.stable.requests > 0 { self.settings.min_answers } else { 0 };
        enough.saturating_sub(of_stratum.canary.requests)
    }

    /// What the verdict says of each stratum.
    fn evidence_by_stratum(&self) -> Vec<StratumEvidence> {
        let strata = self.strata.as_ref().map_or(&[][..], Strata::all);
        let (known, ln_threshold) = (strata.len(), -self.settings.alpha.get().ln());
        let comparisons = self.compared.comparisons();
        let evidence = |(place, of): (usize, &Stratum)| {
            let peak = |comparison: &Comparison| comparison.peak_of(place, known)[0];
            let would_be_found =
                |comparison: &Comparison| comparison.of_a_dead_canary(place, known) >= ln_threshold;
            let more_answers = self.missing_in(of.judged);
            StratumEvidence {
                name: of.name.clone(),
                canary: of.judged.canary,
                stable: of.judged.stable,
                unattributed: of.judged.unattributed,
                ln_e_value: comparisons.iter().map(peak).fold(0.0, f64::max),
                worse: self.is_worse_in(place),
                covered: more_answers == 0 && comparisons.iter().any(would_be_found),
                more_answers,
            }
        };
        strata.iter().enumerate().map(evidence).collect()
    }

    /// Whether the strata in which the canary is not worse alone show no difference together.
    fn is_alike_elsewhere(&self) -> bool {
        let elsewhere =
            |comparison: &Comparison| comparison.ln_common_e_value(|place| !self.is_worse_in(place)) <= 0.0;
        self.compared.comparisons().iter().all(elsewhere)
    }

    /// The number of answers of stable that a promotion still needs, in batches in which the canary answers, too.
    fn missing_stable_answers(&self) -> u64 {
        let seen = self.compared.comparisons().iter().map(Comparison::stable_beside_canary).max();
        self.settings.stable_answers().saturating_sub(seen.unwrap_or(0))
    }

    fn missing_scrapes(&self) -> u64 {
        match &self.compared {
            Compared::Batches(_) => 0,
            Compared::Scrapes(scrapes) => scrapes.missing_scrapes(),
        }
    }

    /// The number of further requests in which the canary gives `canary` answers and stable gives `stable`
    /// answers, if both keep their shares.
    fn requests_until(&self, canary: u64, stable: u64) -> Option<u64> {
        let requests = self.judged.total().requests;
        let requests_until = |answers: u64, seen: Counts| match answers {
            0 => Some(0),
            _ => (u128::from(answers) * u128::from(requests))
                .div_ceil(u128::from(seen.requests))
                .try_into()
                .ok(),
        };
        let both_answer = self.judged.canary.requests > 0 && self.judged.stable.requests > 0;
        both_answer.then(|| {
            Some(requests_until(canary, self.judged.canary)?.max(requests_until(stable, self.judged.stable)?))
        })?
    }

    /// The number of further requests until no stratum misses answers of the canary; `None` if one of them has none.
    fn requests_until_in_strata(&self) -> Option<u64> {
        let requests = u128::from(self.judged.total().requests);
        let strata = self.strata.as_ref().map_or(&[][..], Strata::all);
        let missing = strata.iter().map(|one| (self.missing_in(one.judged), one.judged.canary.requests));
        let until = |(more, seen): (u64, u64)| match (more, seen) {
            (0, _) => Some(0),
            (_, 0) => None,
            (more, seen) => (u128::from(more) * requests).div_ceil(u128::from(seen)).try_into().ok(),
        };
        missing.map(until).try_fold(0, |most, until| Some(most.max(until?)))
    }

    fn pods_mut(&mut self, release: Release) -> &mut PodComparison {
        match release {
            Release::Stable => &mut self.stable_pods,
            Release::Canary => &mut self.canary_pods,
        }
    }

    /// Everything that was counted: what the verdict rests on, what waits, and what is left out of a warm-up. Requests
    /// wait while one that was sent before them has not ended, or while their batch is incomplete.
    pub fn counted(&self) -> Batch {
        self.counted
    }

    /// What was counted in each stratum, but for requests that wait for one that was sent before them; `None` if requests are
    /// not divided.
    pub fn by_stratum(&self) -> Option<Vec<Batch>> {
        self.strata.as_ref().map(|strata| strata.all().iter().map(Stratum::counted).collect())
    }

    /// The judge's settings.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// The roll-back or promotion, once decided. This is cheap enough to call after every outcome.
    pub fn decided(&self) -> Option<Decision> {
        match (self.roll_back, self.promote) {
            (Some(clear_after), _) => Some(Decision::RollBack { clear_after }),
            (None, Some((reason, clear_after))) => Some(Decision::Promote { reason, clear_after }),
            (None, None) => None,
        }
    }

    /// The decision at this time.
    fn decision(&self) -> Decision {
        self.decided().unwrap_or_else(|| if self.both_fail() { Decision::Hold } else { Decision::NotYet })
    }

    /// Whether both releases fail now: there is an incident, or they fail outside of incidents, too. What is over does not
    /// hold a canary.
    fn both_fail(&self) -> bool {
        self.fail_together(self.judged)
            && (self.by_limit.is_incident() || self.fail_together(self.by_limit.outside()))
    }

    /// Whether both observed failure rates are above the limit, and the failure rate of the whole service is
    /// above it with confidence 1 − α.
    fn fail_together(&self, Batch { stable, canary, .. }: Batch) -> bool {
        let limit = self.settings.max_failure_rate.get();
        let fails = |counts: Counts| counts.rate().is_some_and(|rate| rate > limit);
        fails(stable) && fails(canary) && self.bounds(stable + canary).lower > limit
    }

    /// The confidence interval of a failure rate at level 1 − α, valid however often you look.
    fn bounds(&self, counts: Counts) -> Interval {
        ConfidenceSequence::new(self.settings.alpha.get()).interval(counts)
    }

    /// The upper bound of the canary's failure rate, by complete batches.
    fn share_bound(&self) -> f64 {
        match self.compared {
            Compared::Batches(_) => self.by_limit.bound(),
            Compared::Scrapes(_) => self.share.bound(),
        }
    }

    /// [`Verdict::max_share`] alone, which is cheaper.
    pub fn max_share(&self) -> f64 {
        share::max_share(self.settings, &self.decision(), self.share_bound())
    }

    /// The verdict on all complete batches.
    pub fn verdict(&self) -> Verdict {
        let estimate = |counts: Counts| Estimate { counts, bounds: self.bounds(counts) };
        let latency = self.latency();
        let decisive = latency.filter(|latency| latency.decides).map_or(0.0, |latency| latency.ln_e_value);
        let ln_e_value = self.comparison_ln_e_value().max(self.warm_up_ln_e_value()).max(decisive);
        let more_answers = self.by_limit.successes_until_shown();
        let (decision, share_bound) = (self.decision(), self.share_bound());
        Verdict {
            decision,
            max_share: share::max_share(self.settings, &decision, share_bound),
            share_bound,
            soak: None,
            canary: estimate(self.judged.canary),
            stable: estimate(self.judged.stable),
            unattributed: self.judged.unattributed,
            waiting: self.counted - self.judged - self.left_out(),
            warm_up: self.left_out(),
            absence: None,
            restarts: self.restarts,
            restarts_lose_counts: matches!(self.compared, Compared::Scrapes(_)),
            by_limit: self.by_limit.basis(),
            promotion_bound: self.by_limit.bound(),
            more_answers,
            more_stable_answers: self.missing_stable_answers(),
            more_scrapes: self.missing_scrapes().max(self.by_limit.waits_for_stable().into()),
            more_requests: more_answers
                .and_then(|more| self.requests_until(more, self.missing_stable_answers()))
                .and_then(|more| Some(more.max(self.requests_until_in_strata()?))),
            ln_e_value,
            p_value: (-ln_e_value).exp(),
            latency,
            is_alike_elsewhere: self.is_alike_elsewhere(),
            strata: self.evidence_by_stratum(),
            failing_pods: FailingPods {
                canary: self.canary_pods.failing(),
                stable: self.stable_pods.failing(),
                explain_the_difference: self.is_worse() && self.pods_differ_as_much(),
            },
            episodes: self.episodes(),
            settings: self.settings,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Outcome, testing::counts, verdict::Basis};
    use Outcome::{Failure, Success};
    use Release::{Canary, Stable};

    type Outcomes = (Option<Release>, Outcome);

    fn outcome(failed: bool) -> Outcome {
        if failed { Failure } else { Success }
    }

    /// Rounds of three answers of stable and one of the canary.
    fn rounds(rounds: usize, stable_failed: bool, canary_failed: bool) -> Vec<Outcomes> {
        let stable = (Some(Stable), outcome(stable_failed));
        [stable, stable, stable, (Some(Canary), outcome(canary_failed))].repeat(rounds)
    }

    fn unattributed(outcome: Outcome, times: usize) -> Vec<Outcomes> {
        vec![(None, outcome); times]
    }

    fn observed(settings: Settings, requests: impl IntoIterator<Item = Outcomes>) -> Judge {
        let mut judge = Judge::new(settings);
        for (release, outcome) in requests {
            judge.observe(Request::new(release, outcome));
        }
        judge.end();
        judge
    }

    fn judged(requests: impl IntoIterator<Item = Outcomes>) -> Verdict {
        observed(Settings::default(), requests).verdict()
    }

    fn is_roll_back(verdict: &Verdict) -> bool {
        matches!(verdict.decision, Decision::RollBack { .. })
    }

    fn is_promotion(verdict: &Verdict, wanted: Reason) -> bool {
        matches!(verdict.decision, Decision::Promote { reason, .. } if reason == wanted)
    }

    #[test]
    fn a_canary_that_always_succeeds_is_promoted_after_345_answers() {
        let before = judged(rounds(344, false, false));
        assert_eq!((before.decision, before.more_answers), (Decision::NotYet, Some(1)));
        assert!(before.promotion_bound > 0.01);
        assert_eq!(before.more_requests, Some(4));

        let after = judged(rounds(345, false, false));
        assert!(is_promotion(&after, Reason::Limit) && after.promotion_bound <= 0.01);
        assert_eq!(
            after.to_string(),
            "Promote: the canary has failed 0 of 345 requests, so at most 1 % of its requests fail (the limit is 1 %). \
             There is no evidence that it is worse than stable, which has failed 0 of 1,035 requests. Its latency was not \
             compared with stable's. With all traffic it may burn up to 10 times the error budget."
        );
    }

    #[test]
    fn a_broken_canary_is_rolled_back_after_a_few_answers() {
        let verdict = judged(rounds(6, false, true));
        let by_limit = Basis { counts: counts(2, 2), ..Basis::default() };
        let at =
            Evidence { canary: counts(2, 2), stable: counts(0, 9), unattributed: 0, by_limit, warm_up: None };
        assert_eq!(verdict.decision, Decision::RollBack { clear_after: at });
        assert_eq!(
            verdict.to_string(),
            "Roll back: the canary is worse than stable (clear after 2 of its answers). It has failed 6 of 6 requests \
             (between 42 % and 100 %), and stable 0 of 18 requests (between 0 % and 20 %)."
        );
    }

    #[test]
    fn a_decision_comes_only_at_the_end_of_a_batch() {
        let mut judge = Judge::new(Settings::default());
        for (release, outcome) in rounds(3, false, true).into_iter().take(10) {
            judge.observe(Request::new(release, outcome));
            assert_eq!(judge.decided(), None);
        }
        assert_eq!(judge.verdict().canary.counts, counts(0, 0), "the verdict has complete batches only");
        judge.observe(Request::new(Some(Stable), Success));
        assert!(is_roll_back(&judge.verdict()));
    }

    #[test]
    fn a_roll_back_is_final_and_a_promotion_can_change_only_to_a_roll_back() {
        let mut requests = rounds(10, false, true);
        requests.extend(rounds(10_000, true, false));
        assert!(is_roll_back(&judged(requests)));

        let mut requests = rounds(400, false, false);
        requests.extend(rounds(50, true, true));
        let verdict = judged(requests.clone());
        assert!(is_promotion(&verdict, Reason::Limit), "{verdict}");
        assert!(verdict.to_string().contains("By now the canary has failed 50 of 450 requests"), "{verdict}");
        requests.extend(rounds(200, false, true));
        assert!(is_roll_back(&judged(requests)));
    }

    /// 60 × (9 stable good, 1 canary good), then 3 × (9 stable bad, 1 canary bad): the rates are exactly equal.
    #[test]
    fn an_outage_of_both_releases_does_not_count_against_the_canary() {
        let round = |failed| {
            let mut requests = vec![(Some(Stable), outcome(failed)); 9];
            requests.push((Some(Canary), outcome(failed)));
            requests
        };
        for (before, outage) in [(60, 3), (60, 30), (0, 10), (61, 1)] {
            let requests =
                (0..before).map(|_| round(false)).chain((0..outage).map(|_| round(true))).flatten();
            let verdict = judged(requests);
            assert!(verdict.p_value > 0.2, "{before}, {outage}: {verdict}");
        }
    }

    #[test]
    fn a_failure_rate_above_the_limit_is_no_reason_to_roll_back() {
        let bad = rounds(100, false, false).into_iter().chain(rounds(5, true, true));
        let verdict = judged(bad);
        assert_eq!(verdict.decision, Decision::Hold, "{verdict}");
        assert!(
            verdict.to_string().starts_with("Hold: both releases fail more than 1 % of their requests"),
            "{verdict}"
        );
        assert!(
            verdict.to_string().contains(
                "When the failures end, the verdict goes on by itself: a promotion then takes about 320 more answers of \
                 the canary if all of them succeed."
            ),
            "{verdict}"
        );
    }

    /// An incident of half a minute with 40 requests a second, and 7.5 minutes after it.
    #[test]
    fn a_hold_ends_when_the_incident_is_over_and_the_canary_is_promoted() {
        let mut judge = Judge::new(Settings::default());
        let observe = |judge: &mut Judge, requests: Vec<Outcomes>| {
            for (release, outcome) in requests {
                judge.observe(Request::new(release, outcome));
            }
        };
        observe(&mut judge, rounds(100, false, false));
        observe(&mut judge, rounds(76, true, true));
        assert_eq!(judge.verdict().decision, Decision::Hold);

        observe(&mut judge, rounds(30, false, false));
        let verdict = judge.verdict();
        assert_eq!(verdict.decision, Decision::NotYet, "{verdict}");
        let by_limit = verdict.by_limit;
        let left_out = by_limit.during_incidents;
        assert_eq!(left_out.failures, 76, "{by_limit:?}");
        assert_eq!(by_limit.counts + left_out, verdict.canary.counts, "none is lost");
        assert!(
            verdict.to_string().contains("In incidents, in which stable fails, too, it has failed 76 of ")
        );

        let more = verdict.more_answers.unwrap();
        observe(&mut judge, rounds(usize::try_from(more).unwrap() - 1, false, false));
        assert_eq!(judge.verdict().decision, Decision::NotYet, "{more}");
        observe(&mut judge, rounds(2, false, false));
        let verdict = judge.verdict();
        assert!(is_promotion(&verdict, Reason::Limit), "{verdict}");
        assert_eq!(verdict.canary.counts.failures, 76, "all are counted");
        observe(&mut judge, rounds(2_400 - 132, false, false));
        let text = judge.verdict().to_string();
        assert!(text.starts_with("Promote: the canary has failed 0 of "), "{text}");
        assert!(text.contains(" outside of incidents, so at most 1 % of its requests fail"), "{text}");
    }

    /// What a pod has counted in 15 s.
    fn scrape(release: Release, pod: &str, since: f64, failures: u64) -> Window {
        Window {
            release,
            pod: pod.into(),
            since,
            until: since + 15.0,
            counts: counts(failures, 50),
            restarted: false,
            is_warm_up: false,
            strata: Vec::new(),
            latencies: Vec::new(),
        }
    }

    fn scraped(settings: Settings, canary_failures: u64) -> Judge {
        let mut judge = Judge::new(settings);
        for round in 0..60 {
            let pods = [(Canary, "new", canary_failures), (Stable, "one", 0), (Stable, "two", 0)];
            for (pod, (release, name, failures)) in pods.into_iter().enumerate() {
                judge.observe_scrapes([scrape(release, name, f64::from(15 * round) + pod as f64, failures)]);
            }
        }
        judge.end();
        judge
    }

    #[test]
    fn episodes_of_scraped_counters_change_no_promotion() {
        let with = Settings { episodes: Some(Duration::from_secs(2)), ..Settings::default() };
        let verdicts = [Settings::default(), with].map(|settings| scraped(settings, 0).verdict());
        let [without, with] = verdicts;
        assert!(is_promotion(&with, Reason::Limit), "{with}");
        assert_eq!((without.decision, without.promotion_bound), (with.decision, with.promotion_bound));
        assert_eq!((without.episodes, with.episodes.map(|seen| seen.canary.pods)), (None, Some(1)));
    }

    #[test]
    fn a_canary_whose_scraped_counters_show_failures_in_most_spans_is_rolled_back() {
        let settings = Settings { episodes: Some(Duration::from_secs(2)), ..Settings::default() };
        let verdict = scraped(settings, 25).verdict();
        assert!(is_roll_back(&verdict), "{verdict}");
        assert!(verdict.to_string().ends_with("two pods would tell."), "{verdict}");
        let episodes = verdict.episodes.expect("they count");
        assert_eq!((episodes.span, episodes.decide), (Duration::from_secs(15), false));
    }

    #[test]
    fn episodes_of_scraped_counters_go_on_after_an_interruption() {
        let settings = Settings { episodes: Some(Duration::from_secs(2)), ..Settings::default() };
        let judge = scraped(settings, 3);
        let mut again: Judge = serde_json::from_str(&serde_json::to_string(&judge).unwrap()).unwrap();
        assert!(again.resume());
        assert_eq!(again.verdict().episodes, judge.verdict().episodes);
        let spans = |judge: &Judge| judge.verdict().episodes.map(|seen| seen.canary.spans);
        for round in 0..10 {
            let since = 10_000.0 + 15.0 * f64::from(round);
            again.observe_scrapes([scrape(Canary, "new", since, 0), scrape(Stable, "one", since + 1.0, 0)]);
        }
        again.end();
        assert_eq!(spans(&again), spans(&judge).map(|before| before + 10));
    }

    #[test]
    fn requests_that_come_after_scrapes_are_no_episodes() {
        let settings = Settings { episodes: Some(Duration::from_secs(2)), ..Settings::default() };
        let mut judge = scraped(settings, 0);
        let before = judge.verdict().episodes;
        for second in 1000..2000 {
            let request = Request::new(Some(Canary), Failure).with_pod(Some("new"));
            judge.observe(request.with_sent(Some(Duration::from_secs(second))));
        }
        judge.end();
        assert_eq!(judge.verdict().episodes, before);
    }

    /// It harms nobody else, so it is not an incident.
    #[test]
    fn episodes_of_the_canary_alone_are_never_left_out() {
        let episode = || rounds(400, false, false).into_iter().chain(rounds(1, false, true));
        let mut requests = rounds(1, false, true);
        requests.extend((0..3).flat_map(|_| episode()));
        assert!(judged(requests).by_limit.is_of_all());
    }

    #[test]
    fn a_canary_without_failures_is_promoted_beside_a_stable_release_that_always_fails() {
        let verdict = judged(rounds(416, true, false));
        assert!(is_promotion(&verdict, Reason::Limit), "{verdict}");
        assert!(verdict.by_limit.is_of_all());
    }

    /// Stable fails 2 % and the canary 1 %, spread evenly.
    #[test]
    fn a_canary_that_is_better_than_a_stable_release_above_the_limit_is_promoted() {
        let requests = (0..2000).flat_map(|round| {
            let stable = |third| (Some(Stable), outcome(round % 50 == third * 7));
            [stable(0), stable(1), stable(2), (Some(Canary), outcome(round % 100 == 33))]
        });
        let verdict = judged(requests);
        assert!(is_promotion(&verdict, Reason::Ratio), "{verdict}");
        assert!(verdict.to_string().contains("is shown to fail less than 2 times as often"), "{verdict}");
    }

    #[test]
    fn an_incident_does_not_promote_a_canary_that_is_worse_without_it() {
        let ordinary = |round: usize| {
            let canary = (Some(Canary), outcome(round.is_multiple_of(30)));
            [(Some(Stable), Success), (Some(Stable), Success), (Some(Stable), Success), canary]
        };
        let incident =
            rounds(250, true, true).into_iter().zip(rounds(250, false, false)).flat_map(|(a, b)| [a, b]);
        let requests = (0..100).flat_map(ordinary).chain(incident);
        let verdict = judged(requests);
        assert!(!matches!(verdict.decision, Decision::Promote { .. }), "{verdict}");
    }

    #[test]
    fn failures_that_name_no_release_count_against_a_promotion_but_not_for_a_roll_back() {
        let mut requests = rounds(400, false, false);
        requests.splice(0..0, unattributed(Failure, 20));
        let verdict = judged(requests);
        assert_eq!((verdict.decision, verdict.unattributed), (Decision::NotYet, 20), "{verdict}");
        assert!(
            verdict.to_string().ends_with(
                " 20 failures name neither stable nor the canary: they count in full against a promotion, and not at all for a \
                 roll-back."
            ),
            "{verdict}"
        );
        let mut requests = rounds(1000, false, false);
        requests.extend(unattributed(Success, 1000));
        assert!(is_promotion(&judged(requests), Reason::Limit), "successes without a release do not count");
    }

    #[test]
    fn a_promotion_needs_enough_answers_of_stable_in_the_same_time() {
        let alone = vec![(Some(Canary), Success); 1000];
        let verdict = judged(alone.clone());
        assert_eq!((verdict.decision, verdict.more_stable_answers), (Decision::NotYet, 100));
        assert!(verdict.to_string().contains("Stable has not answered"), "{verdict}");
        let mut one = alone.clone();
        one.push((Some(Stable), Success));
        let verdict = judged(one);
        assert_eq!(verdict.decision, Decision::NotYet);
        assert!(verdict.to_string().contains("99 more answers of stable in the same time"), "{verdict}");
        let mut before = vec![(Some(Stable), Success); 1000];
        before.extend(alone);
        assert_eq!(judged(before).decision, Decision::NotYet, "stable answered at another time");
    }

    #[test]
    fn the_verdict_counts_slow_answers() {
        let settings = Settings { max_latency: Some(Duration::from_millis(300)), ..Settings::default() };
        let slow = rounds(10, false, false).into_iter().map(|(release, outcome)| {
            (release, if release == Some(Canary) { Outcome::Slow } else { outcome })
        });
        let verdict = observed(settings, slow).verdict();
        assert!(is_roll_back(&verdict));
        assert!(
            verdict.to_string().ends_with(
                " Answers slower than 300ms count as failures: 10 of the canary's, 0 of stable's."
            ),
            "{verdict}"
        );
    }

    /// Three pods of stable, the first of which fails as often as the canary's pod.
    #[test]
    fn there_is_no_roll_back_when_stables_own_pods_differ_as_much() {
        let mut judge = Judge::new(Settings::default());
        for round in 0..300 {
            let failed = outcome(round % 3 == 0);
            judge.observe(Request::new(Some(Stable), failed).with_pod(Some("one")));
            judge.observe(Request::new(Some(Stable), Success).with_pod(Some("two")));
            judge.observe(Request::new(Some(Stable), Success).with_pod(Some("three")));
            judge.observe(Request::new(Some(Canary), failed).with_pod(Some("four")));
        }
        let verdict = judge.verdict();
        assert!(verdict.p_value < 0.05, "without the names it would be rolled back");
        assert_eq!(verdict.decision, Decision::Hold, "{verdict}");
        assert!(verdict.to_string().contains("stable's own pods differ as much"), "{verdict}");
        assert!(
            verdict.to_string().contains("The stable pod one fails more often than the others"),
            "{verdict}"
        );
    }

    #[test]
    fn the_counts_of_an_interval_are_a_batch() {
        let interval = |canary_failures| Batch {
            stable: counts(1, 300),
            canary: counts(canary_failures, 100),
            unattributed: 0,
        };
        let mut judge = Judge::new(Settings::default());
        (0..5).for_each(|_| judge.observe_batch(interval(9)));
        assert!(is_roll_back(&judge.verdict()));
        let mut judge = Judge::new(Settings::default());
        (0..20).for_each(|_| judge.observe_batch(interval(0)));
        assert!(is_promotion(&judge.verdict(), Reason::Limit));
    }

    #[test]
    fn the_serialized_verdict_has_the_decision_and_the_numbers() {
        let verdict = serde_json::to_value(judged(rounds(7, false, true))).unwrap();
        assert_eq!(verdict["decision"], "roll_back");
        assert_eq!(verdict["clear_after"]["canary"]["answers"], 2);
        assert_eq!(verdict["canary"]["failures"], 7);
        assert!(verdict["canary"]["lower"].as_f64().unwrap() > 0.01);
        assert_eq!(verdict["settings"]["alpha"], 0.05);

        let verdict = serde_json::to_value(judged([])).unwrap();
        assert_eq!((&verdict["decision"], &verdict["more_answers"]), (&"not_yet".into(), &345.into()));
        let verdict = serde_json::to_value(judged(rounds(400, false, false))).unwrap();
        assert_eq!((&verdict["decision"], &verdict["reason"]), (&"promote".into(), &"limit".into()));
        let verdict = serde_json::to_value(judged(rounds(100, true, true))).unwrap();
        assert_eq!(verdict["decision"], "hold");
    }

    #[test]
    fn a_verdict_before_the_first_answer_says_that_the_canary_has_not_answered() {
        assert_eq!(
            judged([]).to_string(),
            "Not yet: the canary has not answered. At most 1 % of the traffic for now: the worst canary still possible \
             fails 100 %."
        );
    }

    #[test]
    fn numbers_stay_finite_after_a_long_and_clear_failure() {
        let verdict = judged(rounds(100_000, false, true));
        let Interval { lower, upper } = verdict.canary.bounds;
        for number in [verdict.p_value, verdict.promotion_bound, lower, upper] {
            assert!((0.0..=1.0).contains(&number), "{verdict:?}");
        }
    }
}
