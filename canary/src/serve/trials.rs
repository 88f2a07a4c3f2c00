//! The trials: when one begins, and which requests count in it. This module is pure: the time is an argument.
//!
//! One prober serves all of them. Each trial counts every request since its beginning, except answers of
//! another version of the canary: during a replacement, both versions answer.

mod on_trial;

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use self::on_trial::{Canary, Takes};
pub use self::on_trial::{Gap, OnTrial};
use serde::{Deserialize, Serialize};

use super::versions::{Versions, looks_like_a_hash, workload};
use crate::{
    source::{Attribution, Interval, NoAnswer, Observation, Response, Seen},
    trial::Trial,
    view::word,
};
use canary_judge::{Counts, Decision, Release, Traffic, Verdict};

/// The maximum number of trials.
pub const MOST_TRIALS: usize = 64;
/// A trial that was asked for within this time does not make room for another name of a caller.
pub const STAYS: Duration = Duration::from_secs(60 * 60);
/// The name of the trial before a canary has answered.
pub const NO_CANARY: &str = "no-canary-yet";
/// The name of the trial of a canary whose answers tell neither a version nor a workload.
const UNKNOWN_VERSION: &str = "canary";
/// The trials of engines' rollouts begin with this.
const ROLLOUTS: &str = "flagger/";
/// An engine that has asked this often asks again and again, as engines do.
const ASKED_OFTEN: u64 = 3;

/// The trials.
#[derive(Debug, Deserialize, Serialize)]
pub struct Trials {
    /// Counts all requests, of every version. New trials are copies of it, because it knows the open requests.
    all: OnTrial,
    /// Counts no request: what is known of a version that has not answered.
    unseen: OnTrial,
    named: BTreeMap<String, OnTrial>,
    /// The number of trials that there have been.
    count: u64,
    versions: Versions,
    full: Full,
    /// The number of outcomes, questions and resets.
    changes: u64,
    /// Since when requests are counted, if this process did not begin it.
    counting_since: Option<SystemTime>,
}

/// How often there was no place for another trial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Full {
    /// Another trial has given way.
    pub replaced: u64,
    /// The caller was refused.
    pub refused: u64,
}

/// The trial that a client wants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanted {
    /// Of the versions that answer now, the one with the most cautious verdict.
    Current,
    /// The one of this name. A name that looks like a hash means that version.
    Named(String),
    /// The one of the version with this hash.
    Version(String),
}

/// The trial that a client gets.
#[derive(Clone, Debug)]
pub struct Found<'a> {
    /// The trial's name.
    pub id: &'a str,
    /// The trial.
    pub one: &'a OnTrial,
    /// Other trials of versions that answer now, each with its decision, if the client has named none.
    pub others: Vec<(&'a str, Decision)>,
    /// What the canary's versions of these have answered, in the same order.
    pub counts_of_others: Vec<Counts>,
    /// Whether it is the trial of a version of which no answer has come.
    pub unseen: bool,
}

/// Why a trial begins, which decides what gives way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    Caller,
    Version,
    Rollout,
}

/// The maximum number of trials is reached, and all of them were asked for within the hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are {MOST_TRIALS} trials, and all of them were asked for within the hour")]
pub struct TooMany;

impl Trials {
    /// No trials yet. Each one starts as a copy of `trial`.
    pub fn new(trial: Trial) -> Self {
        let now = trial.tally().began();
        let unseen = OnTrial::new(trial.clone(), Takes::NoVersion, 0, now);
        let all = OnTrial::new(trial, Takes::All, 0, now);
        Self {
            all,
            unseen,
            named: BTreeMap::new(),
            count: 0,
            versions: Versions::default(),
            full: Full::default(),
            changes: 0,
            counting_since: None,
        }
    }

    /// Counts an outcome. A trial begins if it is the first of a version of the canary.
    pub fn observe(&mut self, seen: &Seen, now: Instant) {
        self.changes = self.changes.wrapping_add(1);
        match seen {
            Seen::Request(observation) => self.observe_request(observation, now),
            Seen::Interval(interval) => self.observe_interval(interval, now),
            Seen::Health(health) => {
                for one in self.named.values_mut().chain([&mut self.all]) {
                    one.trial.observe_health(health);
                }
            }
            Seen::Trouble(_) => {}
        }
    }

    fn observe_request(&mut self, observation: &Observation, now: Instant) {
        let of_canary = |attribution: &Attribution| attribution.release() == Some(Release::Canary);
        let pod = observation.pod();
        let canary = match &observation.response {
            Response::Answer(answer) if of_canary(&answer.attribution) => {
                self.versions.of(pod, answer.info.as_ref()).map_or(Canary::Unknown, Canary::Of)
            }
            // if the source knows the pod, a canary that never answers has a trial, too, and no other one pays for it
            Response::NoAnswer(NoAnswer { attribution, info: Some(info), .. }) if of_canary(attribution) => {
                self.versions.of(pod, Some(info)).map_or(Canary::Unknown, Canary::Of)
            }
            _ => Canary::No,
        };
        self.begin_for(canary, pod, now);
        for one in self.named.values_mut().chain([&mut self.all]) {
            one.observe(observation, canary, now);
        }
    }

    fn observe_interval(&mut self, interval: &Interval, now: Instant) {
        let counts = interval.canary();
        let versions = &mut self.versions;
        let mut canary = |hash: &str| versions.of_hash(hash).map_or(Canary::Unknown, Canary::Of);
        let canaries: BTreeMap<&str, Canary> = counts.keys().map(|hash| (*hash, canary(hash))).collect();
        for canary in canaries.values() {
            self.begin_for(*canary, None, now);
        }
        for one in self.named.values_mut().chain([&mut self.all]) {
            one.observe_interval(interval, &counts, &canaries, now);
        }
    }

    /// Begins the trial of this version, if there is none.
    fn begin_for(&mut self, canary: Canary, pod: Option<&str>, now: Instant) {
        let takes = match canary {
            Canary::No => return,
            Canary::Unknown => Takes::NoVersion,
            Canary::Of(version) => Takes::Version(version),
        };
        if self.named.values().any(|one| one.takes == takes) {
            return;
        }
        let id = match canary {
            Canary::Of(version) => self.versions.id(version),
            _ => Some(pod.and_then(workload).unwrap_or(UNKNOWN_VERSION)),
        };
        let Some(id) = id.map(str::to_owned) else { return };
        if let Some(one) = self.named.get_mut(&id) {
            one.reset(now); // a caller has chosen this name, and its version answers only now
            one.takes = takes;
        } else if self.make_room(For::Version, now).is_ok() {
            self.begin(&id, takes, now);
        }
    }

    /// Begins a trial with a new name.
    fn begin(&mut self, id: &str, takes: Takes, now: Instant) {
        let mut trial = self.all.trial.clone();
        trial.reset(now);
        self.count += 1;
        self.named.insert(id.to_owned(), OnTrial::new(trial, takes, self.count, now));
    }

    /// Removes a trial if there is no room for one more. Names that callers have chosen give way first, then
    /// versions that do not answer. A caller's name gets only the place of a trial that nobody has asked for within
    /// the hour.
    fn make_room(&mut self, reason: For, now: Instant) -> Result<(), TooMany> {
        if self.named.len() < MOST_TRIALS {
            return Ok(());
        }
        let rank = |one: &OnTrial| match one.takes {
            Takes::All if one.is_rollout() => 2 + u32::from(reason != For::Rollout),
            Takes::All => 0,
            Takes::Version(_) | Takes::NoVersion if one.answers_now(now) => {
                2 + u32::from(reason == For::Rollout)
            }
            Takes::Version(_) | Takes::NoVersion => 1,
        };
        let gives_way = |one: &OnTrial| match reason {
            For::Caller => now.saturating_duration_since(one.asked.0) >= STAYS && !one.answers_now(now),
            For::Version | For::Rollout => true,
        };
        let order = |one: &OnTrial| (rank(one), one.asked.1 >= ASKED_OFTEN, one.asked.0, one.number);
        let others = self.named.iter().filter(|(_, one)| gives_way(one));
        let first = others.min_by_key(|(_, one)| order(one)).map(|(id, _)| id.clone());
        let Some(id) = first else {
            self.full.refused += 1;
            return Err(TooMany);
        };
        self.full.replaced += 1;
        self.named.remove(&id);
        Ok(())
    }

    /// The trial that a client wants. A new name of the caller's begins a trial now.
    ///
    /// # Errors
    /// If there is no room for a new trial.
    pub fn ask<'a>(&'a mut self, wanted: &'a Wanted, now: Instant) -> Result<Found<'a>, TooMany> {
        self.changes = self.changes.wrapping_add(1);
        if let Wanted::Named(id) = wanted
            && self.known_as(wanted).is_none()
            && id != NO_CANARY
            && is_for_a_caller(id)
        {
            self.make_room(For::Caller, now)?;
            self.begin(id, Takes::All, now);
        }
        self.view(wanted, now).ok_or(TooMany)
    }

    /// The trial that a viewer wants, which counts as asking for it. No trial begins: `None` if the viewer's own has
    /// given way to another one.
    pub fn view<'a>(&'a mut self, wanted: &'a Wanted, now: Instant) -> Option<Found<'a>> {
        let id = match wanted {
            Wanted::Current => self.current_id(now),
            Wanted::Named(_) | Wanted::Version(_) => self.known_as(wanted),
        };
        match (id.and_then(|id| self.named.get_mut(&id)), wanted) {
            (Some(one), _) => one.is_asked(now),
            (None, Wanted::Named(id)) if id != NO_CANARY && is_for_a_caller(id) => return None,
            (None, _) => {}
        }
        Some(self.find(wanted, now))
    }

    /// The trial that a client wants, without a new one.
    pub(super) fn find<'a>(&'a self, wanted: &'a Wanted, now: Instant) -> Found<'a> {
        let alone =
            |id, one, unseen| Found { id, one, others: Vec::new(), counts_of_others: Vec::new(), unseen };
        let known = |wanted| self.known_as(wanted).and_then(|id| self.named.get_key_value(&id));
        match wanted {
            Wanted::Current => self.current(now),
            Wanted::Named(id) if id == NO_CANARY => alone(NO_CANARY, &self.all, false),
            Wanted::Named(id) | Wanted::Version(id) => match known(wanted) {
                Some((id, one)) => alone(id, one, false),
                None => alone(id, &self.unseen, true),
            },
        }
    }

    /// The trial of a rollout, for its engine. If the last rollout of this name is over, it begins anew, and so does
    /// a name that is new. Returns the verdict, and whether it begins anew after an end.
    pub fn ask_for_rollout(&mut self, id: &str, now: Instant) -> (Verdict, bool) {
        self.changes = self.changes.wrapping_add(1);
        if !self.named.contains_key(id) {
            // there is always a trial to replace by that of a rollout
            let _ = self.make_room(For::Rollout, now);
            self.begin(id, Takes::All, now);
        }
        match self.named.get_mut(id) {
            Some(one) => {
                one.is_asked(now);
                let anew = one.is_asked_by_engine(now);
                (one.trial().verdict(now), anew)
            }
            None => (self.unseen.trial().verdict(now), false),
        }
    }

    /// Whether the canary of this trial, which has not answered, may get its first traffic. If it was allowed, and nothing
    /// has come of it, it is allowed again after some time.
    pub fn may_take_first_step(&mut self, id: &str, now: Instant) -> bool {
        self.changes = self.changes.wrapping_add(1);
        self.named.get_mut(id).is_some_and(|one| one.may_take_first_step(now))
    }

    /// Ends the rollouts whose trials have this prefix. Their verdicts can still be read. Returns whether all of
    /// them have ended: without a token, a canary that may still be judged must be silent first.
    pub fn end_rollouts(&mut self, prefix: &str, has_token: bool, now: Instant) -> bool {
        self.changes = self.changes.wrapping_add(1);
        let ending = self.named.iter_mut().filter(|(id, _)| id.starts_with(prefix));
        let ended: Vec<_> = ending.map(|(_, one)| one.end_rollout(has_token, now)).collect();
        ended.iter().all(|ended| *ended)
    }

    /// Says that a person has paused the requests, or goes on.
    pub(super) fn pause(&mut self, paused: bool, now: Instant) {
        for one in self.named.values_mut().chain([&mut self.all]) {
            one.pause(paused, now);
        }
    }

    /// Sets the requests a second that the service gets from now on. Trials of other names keep theirs, because all of
    /// their requests were sent at that rate.
    pub(super) fn set_traffic(&mut self, traffic: Traffic, id: &str) {
        for one in [&mut self.all, &mut self.unseen].into_iter().chain(self.named.get_mut(id)) {
            one.trial.set_traffic(traffic);
        }
    }

    /// Resets the trial. `None` if there is no such trial.
    pub fn reset(&mut self, wanted: &Wanted, now: Instant) -> Option<String> {
        let id = match wanted {
            Wanted::Current => self.current_id(now).unwrap_or_else(|| NO_CANARY.to_owned()),
            Wanted::Named(id) if id == NO_CANARY => id.clone(),
            Wanted::Named(_) | Wanted::Version(_) => self.known_as(wanted)?,
        };
        let one = if id == NO_CANARY { &mut self.all } else { self.named.get_mut(&id)? };
        one.reset(now);
        self.changes = self.changes.wrapping_add(1);
        Some(id)
    }

    /// Forgets all trials and versions.
    pub(super) fn forget(&mut self, now: Instant) {
        self.named.clear();
        self.versions = Versions::default();
        for one in [&mut self.all, &mut self.unseen] {
            one.reset(now); // not new, because requests may be under way
        }
        self.changes = self.changes.wrapping_add(1);
    }

    /// The name of the trial, if there is one. A resource without a checksum means its last rollout.
    fn known_as(&self, wanted: &Wanted) -> Option<String> {
        let (id, by_name) = match wanted {
            Wanted::Current => return None,
            Wanted::Named(id) => (id, true),
            Wanted::Version(id) => (id, false),
        };
        if by_name && self.named.contains_key(id) {
            return Some(id.clone());
        }
        if by_name && id.starts_with(ROLLOUTS) {
            let prefix = format!("{}/", id.trim_end_matches('/'));
            let rollouts = self.named.iter().filter(|(id, _)| id.starts_with(&prefix));
            let last = rollouts.max_by_key(|(_, one)| (one.asked_by_engine(), one.number));
            return last.map(|(id, _)| id.clone());
        }
        let takes = Takes::Version(self.versions.named(id)?);
        self.named.iter().find(|(_, one)| one.takes == takes).map(|(id, _)| id.clone())
    }

    /// The trial that is shown to those who name none: the most cautious of the versions that answer now.
    pub fn current(&self, now: Instant) -> Found<'_> {
        let current = self.current_id(now);
        let answering = || self.answering(now).filter(|(id, _)| current.as_deref() != Some(*id));
        let others = answering().map(|(id, one)| (id, one.trial.verdict(now).decision)).collect();
        let counts_of_others =
            answering().map(|(_, one)| one.trial.tally().of_release(Release::Canary)).collect();
        let named = current.as_ref().and_then(|id| self.named.get_key_value(id));
        let (id, one) = named.map_or((NO_CANARY, &self.all), |(id, one)| (id.as_str(), one));
        Found { id, one, others, counts_of_others, unseen: false }
    }

    fn current_id(&self, now: Instant) -> Option<String> {
        let mut answering: Vec<_> = self.answering(now).collect();
        answering.sort_by_key(|(_, one)| Reverse(one.number));
        if answering.len() > 1 {
            answering.sort_by_key(|(_, one)| Reverse(caution(&one.trial.verdict(now).decision))); // stable
        }
        answering.first().map(|(id, _)| (*id).to_owned())
    }

    /// The trials of the versions that answer now.
    fn answering(&self, now: Instant) -> impl Iterator<Item = (&str, &OnTrial)> {
        let versions = self.named.iter().filter(|(_, one)| one.takes != Takes::All);
        versions.filter(move |(_, one)| one.answers_now(now)).map(|(id, one)| (id.as_str(), one))
    }

    /// The number of trials, without the one before a canary has answered.
    pub fn count(&self) -> usize {
        self.named.len()
    }

    /// How often there was no place for another trial.
    pub fn full(&self) -> Full {
        self.full
    }

    /// Records a point of each trial's course. Call it a few times a second.
    pub fn remember(&mut self, now: Instant) {
        for one in self.named.values_mut().chain([&mut self.all]) {
            one.remember(now);
        }
    }

    /// The trials whose decision is not the same as at the last call, with their verdicts.
    pub fn new_decisions(&mut self, now: Instant) -> Vec<(String, Verdict)> {
        let named = self.named.iter_mut();
        named.filter_map(|(id, one)| Some((id.clone(), one.new_decision(now)?))).collect()
    }

    /// What each trial starts as, apart from the requests under way.
    pub(super) fn trial(&self) -> &Trial {
        &self.unseen.trial
    }

    /// The number of changes that are worth to be kept.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Since when requests are counted, if an earlier process began it.
    pub(super) fn counting_since(&self) -> Option<SystemTime> {
        self.counting_since
    }

    /// Goes on after a time in which nothing was seen, with trials that were read. `None` if they cannot be trials.
    pub(super) fn resume(mut self, counting_since: SystemTime, gap: Gap, like: &Trial) -> Option<Self> {
        self.counting_since = Some(counting_since);
        let all = self.named.values_mut().chain([&mut self.all, &mut self.unseen]);
        let sound: Vec<_> = all.map(|one| one.resume(gap, like)).collect();
        (self.named.len() <= MOST_TRIALS && sound.iter().all(|sound| *sound)).then_some(self)
    }

    /// When nothing was seen in the trial of this name, if it went on after that.
    pub(super) fn gap_in(&self, id: &str) -> Option<Gap> {
        self.named.get(id).and_then(OnTrial::gap)
    }
}

impl Found<'_> {
    /// What there is to know besides the verdict.
    pub fn note(&self) -> Option<String> {
        if self.unseen && is_resource(self.id) {
            return Some(format!("No engine has asked for a rollout of {}.", self.id));
        }
        if self.unseen {
            return Some(format!("No answer of the canary has told the version {}.", self.id));
        }
        let other =
            |(id, decision): &(&str, Decision)| format!("{id} ({})", word(decision).replace('_', " "));
        let others: Vec<_> = self.others.iter().map(other).collect();
        let others = (!others.is_empty())
            .then(|| format!("Other versions of the canary answer at the same time: {}.", others.join(", ")));
        let notes: Vec<_> = others.into_iter().chain(self.one.gap().map(|gap| gap.to_string())).collect();
        (!notes.is_empty()).then(|| notes.join(" "))
    }
}

/// Whether a caller's trial may have this name: it is neither a version's nor that of a resource's last rollout.
fn is_for_a_caller(id: &str) -> bool {
    !looks_like_a_hash(id) && !is_resource(id)
}

/// Whether it names a resource, without a checksum.
fn is_resource(id: &str) -> bool {
    id.strip_prefix(ROLLOUTS).is_some_and(|rest| rest.matches('/').count() == 1)
}

/// The more cautious a decision, the greater.
fn caution(decision: &Decision) -> u32 {
    match decision {
        Decision::RollBack { .. } => 3,
        Decision::Hold => 2,
        Decision::NotYet => 1,
        Decision::Promote { .. } => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::on_trial::{ANSWERS_NOW, IDLE_AFTER};
    use super::*;
    use crate::{
        source::{Answer, Cause, CountedWindow},
        trial::Coverage,
    };
    use Outcome::{Failure, Success};
    use appinfo::{app_info::AppInfo, labels::Labels};
    use canary_judge::{Counts, Decision, Outcome, Settings, Window};

    /// Trials, the time, and the number of the next request.
    struct Watched {
        trials: Trials,
        began: Instant,
        now: Instant,
        number: u64,
    }

    fn named(id: &str) -> Wanted {
        Wanted::Named(id.to_owned())
    }

    const BROKEN: &str = "appinfo-canary-broken-c66665c44-x2z4v";
    const FIXED: &str = "appinfo-canary-fixed-744f96dc75-x2z4v";

    impl Watched {
        fn new() -> Self {
            let now = Instant::now();
            let trial = Trial::new(Settings::default(), None, Coverage::Sample, now);
            Self { trials: Trials::new(trial), began: now, now, number: 0 }
        }

        /// A request that takes a millisecond.
        fn respond(&mut self, response: Response) {
            let sent = self.now;
            self.now += Duration::from_millis(1);
            let observation =
                Observation { number: self.number, sent, started: None, stratum: None, response };
            self.number += 1;
            self.trials.observe(&Seen::Request(observation), self.now);
        }

        fn answer(&mut self, release: Release, outcome: Outcome, pod: Option<&str>) {
            let pod = pod.map(str::to_owned);
            let attribution = Attribution::Release(release);
            self.respond(Response::Answer(Answer {
                attribution,
                outcome,
                status: None,
                latency: None,
                pod,
                info: None,
            }));
        }

        /// Three answers of stable and one of the canary, so many times.
        fn rounds(&mut self, rounds: u32, canary: &str, outcome: Outcome) {
            for _ in 0..rounds {
                (0..3).for_each(|_| self.answer(Release::Stable, Success, Some("appinfo-567b989978-vvzlg")));
                self.answer(Release::Canary, outcome, Some(canary));
            }
        }

        fn stable(&mut self, answers: u32) {
            (0..answers).for_each(|_| self.answer(Release::Stable, Success, None));
        }

        /// An interval of a second.
        fn count(&mut self, stable: Counts, canary: &[(&str, Counts)]) {
            self.now += Duration::from_secs(1);
            let clock = self.now.duration_since(self.began).as_secs_f64();
            let window = |release, version: &str, counts| {
                let pod = format!("{release} {version}").into();
                let (since, until, restarted) = (clock - 1.0, clock, false);
                let (is_warm_up, strata, latencies) = (false, Vec::new(), Vec::new());
                let window =
                    Window { release, pod, since, until, counts, restarted, is_warm_up, strata, latencies };
                CountedWindow { version: version.to_owned(), window, started: None }
            };
            let canary = canary.iter().map(|(hash, counts)| window(Release::Canary, hash, *counts));
            let windows = [window(Release::Stable, "", stable)].into_iter().chain(canary).collect();
            let interval = Interval { at: self.now, clock, began: 0.0, windows };
            self.trials.observe(&Seen::Interval(interval), self.now);
        }

        fn ask(&mut self, id: Option<&str>) -> String {
            let wanted = id.map_or(Wanted::Current, named);
            self.trials.ask(&wanted, self.now).expect("room").id.to_owned()
        }

        /// The decision in the trial of that name, as a client gets it.
        fn decision(&self, id: &str) -> &'static str {
            word(&self.trials.find(&named(id), self.now).one.trial.verdict(self.now).decision)
        }

        /// The decision for those who name no trial.
        fn current(&self) -> (&str, &'static str) {
            let found = self.trials.current(self.now);
            (found.id, word(&found.one.trial.verdict(self.now).decision))
        }

        fn counts(&self, id: &str, release: Release) -> Counts {
            self.trials.find(&named(id), self.now).one.trial.tally().of_release(release)
        }

        fn ask_for_rollout(&mut self, id: &str) -> &'static str {
            word(&self.trials.ask_for_rollout(id, self.now).0.decision)
        }

        fn reset(&mut self, id: Option<&str>) -> Option<String> {
            self.trials.reset(&id.map_or(Wanted::Current, named), self.now)
        }
    }

    #[test]
    fn there_is_a_verdict_before_a_canary_has_answered() {
        let mut watched = Watched::new();
        watched.stable(10);
        assert_eq!((watched.ask(None).as_str(), watched.trials.count()), (NO_CANARY, 0));
        assert_eq!(watched.decision(NO_CANARY), "not_yet");
        assert_eq!(watched.counts(NO_CANARY, Release::Stable).requests, 10);
        assert_eq!(watched.ask(Some(NO_CANARY)), NO_CANARY, "it can be named, too");
        assert_eq!(watched.trials.count(), 0);
    }

    #[test]
    fn a_trial_begins_when_a_canary_is_first_seen() {
        let mut watched = Watched::new();
        watched.stable(100);
        watched.rounds(1, BROKEN, Failure);
        assert_eq!(watched.ask(None), "c66665c44");
        assert_eq!(
            watched.counts("c66665c44", Release::Stable).requests,
            0,
            "what was before does not count"
        );
        watched.rounds(2, BROKEN, Failure);
        assert_eq!(watched.counts("c66665c44", Release::Stable).requests, 6);
        assert_eq!(watched.counts("c66665c44", Release::Canary).requests, 2);
    }

    #[test]
    fn a_crashed_canary_stays_judged() {
        let mut watched = Watched::new();
        watched.rounds(50, BROKEN, Failure);
        watched.stable(100_000);
        assert_eq!((watched.ask(None).as_str(), watched.decision("c66665c44")), ("c66665c44", "roll_back"));
    }

    #[test]
    fn a_version_never_seen_before_begins_its_own_trial_and_the_other_keeps_its_verdict() {
        let mut watched = Watched::new();
        watched.rounds(50, BROKEN, Failure);
        watched.rounds(400, FIXED, Success);
        assert_eq!(watched.current(), ("c66665c44", "roll_back"), "it answered 1.6 s ago");
        watched.now += ANSWERS_NOW;
        assert_eq!(watched.current(), ("744f96dc75", "promote"));
        assert_eq!(watched.decision("c66665c44"), "roll_back");
    }

    #[test]
    fn of_two_versions_that_answer_the_more_cautious_verdict_is_shown_whoever_comes_first() {
        for (first, second) in [(FIXED, BROKEN), (BROKEN, FIXED)] {
            let mut watched = Watched::new();
            let outcome = |pod| if pod == BROKEN { Failure } else { Success };
            watched.rounds(500, first, outcome(first));
            for _ in 0..50 {
                watched.rounds(9, first, outcome(first));
                watched.rounds(1, second, outcome(second));
            }
            assert_eq!(watched.current(), ("c66665c44", "roll_back"));
            let found = watched.trials.current(watched.now);
            assert_eq!(
                found.others.iter().map(|(id, other)| (*id, word(other))).collect::<Vec<_>>(),
                [("744f96dc75", if first == FIXED { "promote" } else { "not_yet" })]
            );
            assert!(found.note().is_some_and(|note| note.contains("744f96dc75 (")), "{:?}", found.note());
        }
    }

    #[test]
    fn a_version_with_few_requests_does_not_count_as_gone() {
        let mut watched = Watched::new();
        watched.rounds(500, FIXED, Success);
        watched.rounds(20, BROKEN, Failure);
        watched.now += 10 * ANSWERS_NOW;
        watched.rounds(9, FIXED, Success);
        assert_eq!(watched.current().1, "roll_back", "only nine answers of the other since");
        watched.rounds(1, FIXED, Success);
        assert_eq!(watched.current(), ("744f96dc75", "promote"));
    }

    #[test]
    fn another_canarys_last_answers_do_not_count_in_the_trial_of_the_next() {
        let mut watched = Watched::new();
        watched.rounds(50, BROKEN, Failure);
        for _ in 0..400 {
            watched.rounds(1, FIXED, Success);
            watched.rounds(1, BROKEN, Failure);
        }
        assert_eq!(watched.decision("744f96dc75"), "promote");
        assert_eq!(
            watched.counts("744f96dc75", Release::Canary),
            Counts { requests: 399, failures: 0, slow: 0 }
        );
    }

    #[test]
    fn a_version_that_comes_back_is_on_trial_again_with_its_verdict() {
        let mut watched = Watched::new();
        watched.rounds(50, BROKEN, Failure);
        watched.rounds(400, FIXED, Success);
        watched.now += ANSWERS_NOW;
        assert_eq!(watched.ask(None), "744f96dc75");
        watched.rounds(1, BROKEN, Success);
        assert_eq!((watched.ask(None).as_str(), watched.decision("c66665c44")), ("c66665c44", "roll_back"));
        assert_eq!(watched.trials.count(), 2);
    }

    #[test]
    fn a_roll_back_is_final_and_a_promotion_yields_only_to_it() {
        let mut watched = Watched::new();
        watched.rounds(400, FIXED, Success);
        assert_eq!(watched.decision("744f96dc75"), "promote");
        watched.rounds(100, FIXED, Failure);
        assert_eq!(watched.decision("744f96dc75"), "roll_back");
        watched.rounds(100_000, FIXED, Success);
        assert_eq!(watched.decision("744f96dc75"), "roll_back");
    }

    #[test]
    fn answers_that_tell_no_version_have_a_trial_of_their_own() {
        let mut watched = Watched::new();
        (0..5).for_each(|_| watched.answer(Release::Canary, Failure, None));
        assert_eq!(watched.ask(None), UNKNOWN_VERSION);
        watched.rounds(400, FIXED, Success);
        assert_eq!(watched.decision("744f96dc75"), "promote");
        watched.rounds(1, "10.0.0.5:8080", Failure);
        assert_eq!(
            watched.counts(UNKNOWN_VERSION, Release::Canary).requests,
            5,
            "all but the first, and the last"
        );
        assert_eq!(watched.counts("744f96dc75", Release::Canary).requests, 399);
        let sides = watched.trials.find(&named("744f96dc75"), watched.now).one.trial.tally().sides();
        assert_eq!(sides.unattributed, 1, "it may be of this version");
    }

    #[test]
    fn pods_with_names_of_any_form_are_one_canary() {
        let names: [fn(u32) -> String; 5] = [
            |n| format!("{n:012x}"),
            |n| format!("10.0.0.{n}:8080"),
            |n| format!("cache-lhr{n}-LHR"),
            |n| format!("550e8400-e29b-41d4-a716-{n:012}"),
            |n| format!("ip-10-0-{n}-{n}"),
        ];
        for name in names {
            let mut watched = Watched::new();
            (0..100).for_each(|n| watched.rounds(1, &name(n), Failure));
            assert_eq!((watched.current().1, watched.trials.count()), ("roll_back", 1), "{}", name(0));
        }
    }

    #[test]
    fn a_hash_that_has_not_answered_gets_no_evidence_of_another_version() {
        let mut watched = Watched::new();
        assert_eq!(watched.ask(Some("5d8f7c9b6d")), "5d8f7c9b6d");
        watched.rounds(400, FIXED, Success);
        for wanted in
            [named("5d8f7c9b6d"), Wanted::Version("5d8f7c9b6d".to_owned()), Wanted::Version("v2".to_owned())]
        {
            let now = watched.now;
            let found = watched.trials.ask(&wanted, now).expect("room");
            assert_eq!(found.one.trial.verdict(now).decision, Decision::NotYet, "{wanted:?}");
            assert_eq!(found.one.trial.tally().total().requests, 0);
            assert!(found.note().is_some_and(|note| note.starts_with("No answer of the canary has told")));
        }
        assert_eq!(watched.trials.count(), 1, "nothing is kept for it");
        let version = Wanted::Version("744f96dc75".to_owned());
        assert_eq!(watched.trials.ask(&version, watched.now).expect("room").id, "744f96dc75");
    }

    #[test]
    fn a_callers_name_is_no_version() {
        let mut watched = Watched::new();
        watched.ask(Some("v2"));
        watched.rounds(400, FIXED, Success);
        assert_eq!(watched.decision("v2"), "promote", "all answers of the canary");
        let found = watched.trials.find(&Wanted::Version("v2".to_owned()), watched.now).unseen;
        assert!(found);
    }

    #[test]
    fn a_callers_trial_begins_when_it_is_named_first() {
        let mut watched = Watched::new();
        watched.rounds(50, BROKEN, Failure);
        assert_eq!(watched.ask(Some("build-7")), "build-7");
        watched.rounds(400, FIXED, Success);
        assert_eq!(watched.ask(Some("build-7")), "build-7");
        assert_eq!(watched.decision("build-7"), "promote", "a new version does not reset it");
        assert_eq!(watched.counts("build-7", Release::Canary).requests, 400);
    }

    #[test]
    fn a_trial_named_by_the_hash_is_that_versions_whoever_comes_first() {
        let mut watched = Watched::new();
        watched.rounds(1, BROKEN, Failure);
        assert_eq!(watched.ask(Some("744f96dc75")), "744f96dc75");
        assert_eq!(watched.trials.count(), 1);
        watched.rounds(20, BROKEN, Failure); // the last answers of the revision before
        watched.rounds(401, FIXED, Success);
        assert_eq!((watched.decision("744f96dc75"), watched.trials.count()), ("promote", 2));
        assert_eq!(
            watched.counts("744f96dc75", Release::Canary),
            Counts { requests: 400, failures: 0, slow: 0 }
        );
        assert_eq!(watched.ask(Some("appinfo-canary-fixed-744f96dc75")), "744f96dc75");
    }

    #[test]
    fn requests_without_an_answer_count_in_every_trial() {
        let mut watched = Watched::new();
        watched.rounds(2, BROKEN, Failure);
        watched.ask(Some("build-7"));
        let (attribution, cause) = (Attribution::NoAnswer, Cause::TimedOut);
        let lost = NoAnswer { attribution, cause, detail: String::new(), pod: None, info: None };
        (0..3).for_each(|_| watched.respond(Response::NoAnswer(lost.clone())));
        for id in ["c66665c44", "build-7", NO_CANARY] {
            let sides = watched.trials.find(&named(id), watched.now).one.trial.tally().sides();
            assert_eq!(sides.unattributed, 3, "{id}");
        }
    }

    #[test]
    fn requests_without_an_answer_count_in_the_trial_of_their_version_if_the_source_knows_the_pod() {
        let mut watched = Watched::new();
        watched.rounds(2, FIXED, Success);
        let info = |labels: &str| Some(AppInfo::new("", "", &Labels::parse(labels.as_bytes())));
        let lost = |pod: &str, info| {
            let (attribution, cause) = (Attribution::Release(Release::Canary), Cause::TimedOut);
            let pod = Some(pod.to_owned());
            Response::NoAnswer(NoAnswer { attribution, cause, detail: String::new(), pod, info })
        };
        for _ in 0..30 {
            watched.stable(1);
            watched.respond(lost(BROKEN, info("")));
            watched.respond(lost("web-0", info("controller-revision-hash=web-5d8")));
        }
        // the first of each was sent before its trial began
        for (id, failures) in [("744f96dc75", 0), ("c66665c44", 29), ("web-5d8", 29)] {
            assert_eq!(watched.counts(id, Release::Canary).failures, failures, "{id}");
        }
        assert_eq!((watched.decision("c66665c44"), watched.decision("744f96dc75")), ("roll_back", "not_yet"));
        let answers_now = watched.ask(None);
        assert!(["c66665c44", "web-5d8"].contains(&answers_now.as_str()), "{answers_now}");
    }

    #[test]
    fn a_request_that_was_sent_before_a_trial_does_not_count_there() {
        let mut watched = Watched::new();
        let sent = watched.now;
        let number = watched.number;
        watched.number += 1;
        watched.now += Duration::from_millis(1);
        watched.ask(Some("build-7"));
        watched.rounds(400, FIXED, Success);
        let attribution = Attribution::Release(Release::Canary);
        let answer =
            Answer { attribution, outcome: Failure, status: None, latency: None, pod: None, info: None };
        let late =
            Observation { number, sent, started: None, stratum: None, response: Response::Answer(answer) };
        assert_eq!(watched.decision("build-7"), "not_yet", "the judge waits for it");
        watched.trials.observe(&Seen::Request(late), watched.now);
        assert_eq!(watched.decision("build-7"), "promote");
        assert_eq!(watched.counts("build-7", Release::Canary).failures, 0);
    }

    #[test]
    fn the_trial_that_was_asked_for_longest_ago_makes_room_after_an_hour() {
        let mut watched = Watched::new();
        watched.rounds(1, BROKEN, Failure);
        for number in 1..MOST_TRIALS {
            watched.ask(Some(&format!("build-{number}")));
            watched.now += Duration::from_secs(1);
        }
        assert_eq!(watched.trials.ask(&named("one-more"), watched.now).err(), Some(TooMany));
        watched.now += STAYS;
        assert_eq!(watched.ask(Some("build-1")), "build-1", "asked for again");
        assert_eq!(watched.ask(Some("one-more")), "one-more");
        assert_eq!(watched.trials.count(), MOST_TRIALS);
        assert_eq!(watched.trials.full(), Full { replaced: 1, refused: 1 });
        let exists = |id: &str| watched.trials.named.contains_key(id);
        assert!(exists("build-1") && exists("c66665c44") && !exists("build-2"));
    }

    #[test]
    fn versions_and_rollouts_find_a_place_however_many_names_there_are() {
        let mut watched = Watched::new();
        watched.rounds(50, BROKEN, Failure);
        watched.ask_for_rollout("flagger/a/b/1");
        for number in 0..MOST_TRIALS {
            let _ = watched.trials.ask(&named(&format!("x{number}")), watched.now);
        }
        assert_eq!((watched.trials.count(), watched.trials.full().refused), (MOST_TRIALS, 2));
        watched.rounds(2, FIXED, Success);
        watched.ask_for_rollout("flagger/a/c/1");
        let exists = |id: &str| watched.trials.named.contains_key(id);
        for id in ["c66665c44", "744f96dc75", "flagger/a/b/1", "flagger/a/c/1"] {
            assert!(exists(id), "{id}");
        }
        assert_eq!(watched.trials.count(), MOST_TRIALS);
    }

    #[test]
    fn rollouts_that_somebody_invents_do_not_replace_a_real_one() {
        let mut watched = Watched::new();
        watched.rounds(50, BROKEN, Failure);
        for _ in 0..ASKED_OFTEN {
            watched.ask_for_rollout("flagger/a/b/1");
        }
        for number in 0..10 * MOST_TRIALS {
            watched.now += Duration::from_millis(1);
            watched.ask_for_rollout(&format!("flagger/evil/{number}/1"));
        }
        let exists = |id: &str| watched.trials.named.contains_key(id);
        assert!(exists("flagger/a/b/1") && exists("c66665c44"));
        assert_eq!(watched.trials.count(), MOST_TRIALS);
    }

    #[test]
    fn versions_that_somebody_invents_do_not_replace_a_rollout() {
        let mut watched = Watched::new();
        watched.ask_for_rollout("flagger/a/b/1");
        let letters: Vec<_> = "bcdfghjklmnpqrstvwxz".chars().collect();
        for (one, other) in letters.iter().flat_map(|one| letters.iter().map(move |other| (one, other))) {
            watched.answer(Release::Canary, Success, Some(&format!("a-c66665c{one}{other}-x2z4v")));
        }
        assert!(watched.trials.named.contains_key("flagger/a/b/1"));
        assert_eq!(watched.trials.count(), MOST_TRIALS);
    }

    #[test]
    fn each_new_decision_is_named_once() {
        let mut watched = Watched::new();
        let new = |watched: &mut Watched| -> Vec<_> {
            let decisions = watched.trials.new_decisions(watched.now).into_iter();
            decisions.map(|(id, verdict)| (id, word(&verdict.decision))).collect()
        };
        watched.rounds(1, BROKEN, Failure);
        assert_eq!(new(&mut watched), [], "not yet");
        watched.rounds(50, BROKEN, Failure);
        assert_eq!(new(&mut watched), [("c66665c44".to_owned(), "roll_back")]);
        watched.rounds(50, BROKEN, Failure);
        assert_eq!(new(&mut watched), []);
    }

    #[test]
    fn a_reset_begins_anew_and_only_there() {
        let mut watched = Watched::new();
        watched.ask(Some("build-7"));
        watched.rounds(50, BROKEN, Failure);
        assert_eq!(watched.reset(None).as_deref(), Some("c66665c44"));
        assert_eq!((watched.decision("c66665c44"), watched.decision("build-7")), ("not_yet", "roll_back"));
        assert_eq!(watched.reset(Some("build-7")).as_deref(), Some("build-7"));
        assert_eq!(watched.decision("build-7"), "not_yet");
        assert_eq!(watched.reset(Some("unknown")), None);
        assert_eq!(Watched::new().reset(None).as_deref(), Some(NO_CANARY));
    }

    #[test]
    fn a_rollout_that_has_ended_begins_anew_when_it_is_asked_for_again() {
        let mut watched = Watched::new();
        watched.ask_for_rollout("flagger/a/b/1");
        watched.ask_for_rollout("flagger/a/c/1");
        watched.rounds(50, BROKEN, Failure);
        assert_eq!(watched.ask_for_rollout("flagger/a/b/1"), "roll_back");
        assert!(watched.trials.end_rollouts("flagger/a/b/", true, watched.now), "with the token");
        assert_eq!(watched.ask(Some("flagger/a/b/1")), "flagger/a/b/1");
        assert_eq!(watched.decision("flagger/a/b/1"), "roll_back", "it may still be looked at");
        assert_eq!(watched.ask_for_rollout("flagger/a/b/1"), "not_yet");
        assert_eq!(watched.ask_for_rollout("flagger/a/c/1"), "roll_back");
    }

    #[test]
    fn without_a_token_a_hook_does_not_reset_a_canary_that_answers() {
        let mut watched = Watched::new();
        watched.ask_for_rollout("flagger/a/b/1");
        watched.rounds(50, BROKEN, Failure);
        for _ in 0..300 {
            watched.rounds(1, BROKEN, Failure);
            assert!(!watched.trials.end_rollouts("flagger/a/b/", false, watched.now));
            assert_eq!(watched.ask_for_rollout("flagger/a/b/1"), "roll_back");
        }
        watched.stable(200);
        watched.now += IDLE_AFTER;
        assert_eq!(watched.ask_for_rollout("flagger/a/b/1"), "not_yet", "it has been silent since");
        let mut good = Watched::new();
        good.ask_for_rollout("flagger/a/b/1");
        good.rounds(400, FIXED, Success);
        assert!(good.trials.end_rollouts("flagger/a/b/", false, good.now), "a promotion is over at once");
    }

    #[test]
    fn a_second_rollout_of_the_same_specification_begins_anew_even_if_its_hooks_were_missed() {
        let mut watched = Watched::new();
        watched.ask_for_rollout("flagger/a/b/1");
        watched.rounds(50, BROKEN, Failure);
        assert_eq!(watched.ask_for_rollout("flagger/a/b/1"), "roll_back");
        watched.stable(200);
        watched.now += IDLE_AFTER;
        watched.rounds(2, BROKEN, Success); // it answers before the engine asks
        assert_eq!(watched.ask_for_rollout("flagger/a/b/1"), "not_yet");
    }

    #[test]
    fn a_roll_back_that_no_engine_has_heard_of_is_kept() {
        let mut watched = Watched::new();
        watched.ask_for_rollout("flagger/a/b/1");
        watched.rounds(50, BROKEN, Failure);
        watched.stable(200);
        watched.now += 2 * IDLE_AFTER;
        assert_eq!(watched.ask_for_rollout("flagger/a/b/1"), "roll_back", "it has crashed");
        watched.now += IDLE_AFTER / 2;
        assert_eq!(watched.ask_for_rollout("flagger/a/b/1"), "roll_back", "the engine asks on");
    }

    #[test]
    fn a_canary_that_gets_few_requests_is_not_silent() {
        let mut watched = Watched::new();
        watched.ask_for_rollout("flagger/a/b/1");
        for _ in 0..40 {
            watched.now += Duration::from_secs(20);
            watched.answer(Release::Canary, Failure, Some(BROKEN));
            watched.stable(99);
            watched.ask_for_rollout("flagger/a/b/1");
        }
        watched.now += 3 * IDLE_AFTER;
        assert_eq!(watched.ask_for_rollout("flagger/a/b/1"), "roll_back", "it answers every 20 s");
        watched.now += 3 * IDLE_AFTER;
        assert_eq!(watched.ask_for_rollout("flagger/a/b/1"), "not_yet");
    }

    #[test]
    fn a_resource_without_a_checksum_means_its_last_rollout() {
        let mut watched = Watched::new();
        assert_eq!(watched.ask(Some("flagger/a/b")), "flagger/a/b");
        assert_eq!(watched.trials.count(), 0, "it is no name for a trial of a caller's own");
        watched.ask_for_rollout("flagger/a/b/2");
        watched.ask_for_rollout("flagger/a/bc/3");
        watched.now += Duration::from_secs(1);
        watched.ask_for_rollout("flagger/a/b/1");
        assert_eq!(watched.ask(Some("flagger/a/b")), "flagger/a/b/1");
        assert_eq!(watched.reset(Some("flagger/a/b")).as_deref(), Some("flagger/a/b/1"));
    }

    #[test]
    fn intervals_are_judged_too() {
        let mut watched = Watched::new();
        let counts = |requests| Counts { requests, failures: 0, slow: 0 };
        for _ in 0..45 {
            watched.count(counts(30), &[("", counts(10))]);
        }
        assert_eq!(watched.ask(None), UNKNOWN_VERSION);
        let verdict = watched.trials.current(watched.now).one.trial.verdict(watched.now);
        assert!(matches!(verdict.decision, Decision::Promote { .. }), "{verdict}");
    }

    #[test]
    fn intervals_of_a_new_template_begin_a_trial_of_their_own() {
        let mut watched = Watched::new();
        let counts = |requests, failures| Counts { requests, failures, slow: 0 };
        for _ in 0..20 {
            watched.count(counts(30, 0), &[("c66665c44", counts(10, 10))]);
        }
        // the old pods still answer for a while
        for _ in 0..5 {
            watched.count(counts(30, 0), &[("744f96dc75", counts(10, 0)), ("c66665c44", counts(10, 10))]);
        }
        (0..45).for_each(|_| watched.count(counts(30, 0), &[("744f96dc75", counts(10, 0))]));
        assert_eq!(watched.ask(None), "744f96dc75");
        assert_eq!((watched.decision("c66665c44"), watched.decision("744f96dc75")), ("roll_back", "promote"));
        assert_eq!(
            watched.counts("744f96dc75", Release::Canary),
            counts(490, 0),
            "from the second interval on"
        );
        watched.count(counts(30, 0), &[("c66665c44", counts(10, 10))]);
        assert_eq!(watched.ask(None), "c66665c44", "it is back");
    }

    #[test]
    fn a_trial_changes_with_what_it_takes_in_and_nothing_else() {
        let mut watched = Watched::new();
        watched.rounds(2, BROKEN, Failure);
        watched.rounds(2, FIXED, Success);
        let changes = |watched: &Watched, id| watched.trials.find(&named(id), watched.now).one.changes();
        let (broken, fixed) = (changes(&watched, "c66665c44"), changes(&watched, "744f96dc75"));
        watched.answer(Release::Canary, Success, Some(FIXED));
        assert_eq!((changes(&watched, "c66665c44"), changes(&watched, "744f96dc75")), (broken, fixed + 1));
    }
}
