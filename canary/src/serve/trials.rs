//! The trials: when one begins, and which requests count in it. This module is pure: the time is an argument.
//!
//! One prober serves all of them. Each trial counts every request since its beginning, except answers of
//! another version of the canary: during a replacement, both versions answer.

mod on_trial;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

pub use self::on_trial::OnTrial;
use super::versions::{Version, Versions};
use crate::{
    source::{Interval, Observation, Response, Seen},
    trial::Trial,
};
use canary_judge::{Release, Verdict};

/// The maximum number of trials.
pub const MOST_TRIALS: usize = 64;
/// A trial that was asked for within this time is kept.
pub const STAYS: Duration = Duration::from_secs(60 * 60);
/// The name of the trial before a canary has answered.
pub const NO_CANARY: &str = "no-canary-yet";
/// The name of the trial of a canary whose answers tell no version.
const UNKNOWN_VERSION: &str = "canary";
/// A known version is current again after this many answers of the canary in a row. Fewer may come from its
/// last pods while they end.
const ANSWERS_UNTIL_BACK: u32 = 20;

/// The trials.
#[derive(Debug)]
pub struct Trials {
    /// Counts all requests, of every version. New trials are copies of it, because it knows the open requests.
    all: OnTrial,
    named: BTreeMap<String, OnTrial>,
    /// The name of the current version's trial; `None` before a canary has answered.
    current: Option<String>,
    versions: Versions,
    /// Another known version that answers, and how many of the canary's answers in a row were its own.
    back: Option<(Version, u32)>,
}

/// The maximum number of trials is reached, and all of them were asked for within the hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are {MOST_TRIALS} trials, and all of them were asked for within the hour")]
pub struct TooMany;

/// The canary's version in an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Canary {
    /// It is not an answer of the canary.
    No,
    /// It is the canary's, of an unknown version.
    Unknown,
    /// It is the canary's, of this version.
    Of(Version),
}

impl Trials {
    /// No trials yet. Each one starts as a copy of `trial`.
    pub fn new(trial: Trial) -> Self {
        let now = trial.tally().began();
        let all = OnTrial::new(trial, now);
        Self { all, named: BTreeMap::new(), current: None, versions: Versions::default(), back: None }
    }

    /// Counts an outcome. A trial begins if it is the first of a version of the canary.
    pub fn observe(&mut self, seen: &Seen, now: Instant) {
        match seen {
            Seen::Request(observation) => self.observe_request(observation, now),
            Seen::Interval(interval) => self.observe_interval(interval, now),
            Seen::Trouble(_) => {}
        }
    }

    fn observe_request(&mut self, observation: &Observation, now: Instant) {
        let canary = self.canary(observation);
        self.follow(canary, now);
        self.all.observe(observation);
        for (id, one) in &mut self.named {
            let takes = match (canary, one.version) {
                (Canary::No, _) | (_, None) => true,
                (Canary::Of(version), Some(own)) => version == own,
                (Canary::Unknown, Some(_)) => self.current.as_ref() == Some(id),
            };
            if takes { one.observe(observation) } else { one.trial.skip(observation.number) }
        }
    }

    fn observe_interval(&mut self, interval: &Interval, now: Instant) {
        let versions = &mut self.versions;
        let hashes = interval.canary.keys().map(|hash| (hash.as_str(), versions.of_hash(hash)));
        let hashes: BTreeMap<_, _> = hashes.collect();
        for (hash, version) in &hashes {
            // if only one version has answered, all its answers were in a row
            let alone = if hashes.len() == 1 { interval.canary[*hash].requests } else { 1 };
            for _ in 0..alone.min(ANSWERS_UNTIL_BACK.into()) {
                self.follow(version.map_or(Canary::Unknown, Canary::Of), now);
            }
        }
        self.all.observe_interval(interval, |_| true);
        for (id, one) in &mut self.named {
            let (own, is_current) = (one.version, self.current.as_ref() == Some(id));
            one.observe_interval(interval, |hash| match (own, hashes.get(hash).copied().flatten()) {
                (None, _) => true,
                (own, Some(version)) => own == Some(version),
                (_, None) => is_current,
            });
        }
    }

    fn canary(&mut self, observation: &Observation) -> Canary {
        match &observation.response {
            Response::Answer(answer) if answer.attribution.release() == Some(Release::Canary) => {
                self.versions.of(answer).map_or(Canary::Unknown, Canary::Of)
            }
            _ => Canary::No,
        }
    }

    /// Determines the current trial.
    fn follow(&mut self, canary: Canary, now: Instant) {
        match canary {
            Canary::Unknown if self.current.is_none() => {
                self.make_current(UNKNOWN_VERSION.to_owned(), None, now);
            }
            Canary::Unknown | Canary::No => {}
            Canary::Of(version) => self.follow_version(version, now),
        }
    }

    fn follow_version(&mut self, version: Version, now: Instant) {
        let known = self.named.iter().find(|(_, one)| one.version == Some(version)).map(|(id, _)| id);
        match known {
            Some(id) if self.current.as_ref() == Some(id) => self.back = None,
            Some(id) => {
                let before = self.back.filter(|(back, _)| *back == version);
                let answers = before.map_or(1, |(_, answers)| answers + 1);
                self.back = Some((version, answers));
                if answers >= ANSWERS_UNTIL_BACK {
                    self.current = Some(id.clone());
                }
            }
            None => self.begin_version(version, now),
        }
    }

    fn begin_version(&mut self, version: Version, now: Instant) {
        let Some(id) = self.versions.id(version).map(str::to_owned) else { return };
        let is_named = self.named.contains_key(&id);
        let current = self.current.as_ref().and_then(|id| self.named.get_mut(id));
        match current.filter(|one| one.version.is_none() && !is_named) {
            Some(one) => one.version = Some(version), // its first answers did not say which
            None => self.make_current(id, Some(version), now),
        }
    }

    /// Without room for another trial, it begins with a later answer.
    fn make_current(&mut self, id: String, version: Option<Version>, now: Instant) {
        if let Some(one) = self.named.get_mut(&id) {
            if one.version.is_none() {
                one.reset(now); // a caller has named it, and its version answers only now
            }
            one.version = version;
        } else {
            let Ok(one) = self.begin(&id, now) else { return };
            one.version = version;
        }
        self.current = Some(id);
        self.back = None;
    }

    /// Begins a trial with a new name.
    fn begin(&mut self, id: &str, now: Instant) -> Result<&mut OnTrial, TooMany> {
        if self.named.len() >= MOST_TRIALS {
            let current = self.current.as_deref();
            let others = self.named.iter().filter(|(id, _)| current != Some(id.as_str()));
            let oldest = others.min_by_key(|(_, one)| one.asked);
            let oldest = oldest.filter(|(_, one)| now.saturating_duration_since(one.asked) >= STAYS);
            let oldest = oldest.map(|(id, _)| id.clone()).ok_or(TooMany)?;
            self.named.remove(&oldest);
        }
        let mut trial = self.all.trial.clone();
        trial.reset(now);
        Ok(self.named.entry(id.to_owned()).or_insert(OnTrial::new(trial, now)))
    }

    /// The name of the requested trial, or of the current one for `None`. An unknown name begins a trial now.
    ///
    /// # Errors
    /// If there is no room for a new trial.
    pub fn ask(&mut self, id: Option<&str>, now: Instant) -> Result<String, TooMany> {
        let Some(id) = id else {
            let current = self.current.as_ref();
            if let Some(one) = current.and_then(|id| self.named.get_mut(id)) {
                one.asked = now;
            }
            return Ok(current.map_or_else(|| NO_CANARY.to_owned(), Clone::clone));
        };
        let id = self.known_as(id);
        if let Some(one) = self.named.get_mut(&id) {
            one.asked = now;
        } else if id != NO_CANARY {
            let version = self.versions.named(&id);
            self.begin(&id, now)?.version = version;
        }
        Ok(id)
    }

    /// The same for a caller who may start another rollout under the same name: if the last rollout has ended,
    /// the trial is reset.
    ///
    /// # Errors
    /// If there is no room for a new trial.
    pub fn ask_for_rollout(&mut self, id: &str, now: Instant) -> Result<String, TooMany> {
        let id = self.ask(Some(id), now)?;
        if let Some(one) = self.named.get_mut(&id).filter(|one| one.ended) {
            one.reset(now);
        }
        Ok(id)
    }

    /// Marks the rollouts as ended whose trials have this prefix. Their verdicts can still be read.
    pub fn end_rollouts(&mut self, prefix: &str) {
        let ended = self.named.iter_mut().filter(|(id, _)| id.starts_with(prefix));
        ended.for_each(|(_, one)| one.ended = true);
    }

    /// Resets the named trial, or the current one. `None` if there is no such trial.
    pub fn reset(&mut self, id: Option<&str>, now: Instant) -> Option<String> {
        let id = id.map(|id| self.known_as(id)).or_else(|| self.current.clone());
        let id = id.unwrap_or_else(|| NO_CANARY.to_owned());
        let one = if id == NO_CANARY { &mut self.all } else { self.named.get_mut(&id)? };
        one.reset(now);
        Some(id)
    }

    /// The name under which the trial of this version is known.
    fn known_as(&self, id: &str) -> String {
        let by_version = || {
            let version = self.versions.named(id)?;
            self.named.iter().find(|(_, one)| one.version == Some(version)).map(|(id, _)| id.as_str())
        };
        let exact = self.named.contains_key(id).then_some(id);
        exact.or_else(by_version).unwrap_or(id).to_owned()
    }

    /// The trial of this name, as returned by [`Trials::ask`].
    pub fn get(&self, id: &str) -> Option<&OnTrial> {
        if id == NO_CANARY { Some(&self.all) } else { self.named.get(id) }
    }

    /// The current trial.
    pub fn current(&self) -> (&str, &OnTrial) {
        let named = self.current.as_ref().and_then(|id| self.named.get_key_value(id));
        named.map_or((NO_CANARY, &self.all), |(id, one)| (id, one))
    }

    /// The number of trials, without the one before a canary has answered.
    pub fn count(&self) -> usize {
        self.named.len()
    }

    /// Records a point of each trial's course. Call it a few times a second.
    pub fn remember(&mut self, now: Instant) {
        for one in self.named.values_mut().chain([&mut self.all]) {
            one.remember(now);
        }
    }

    /// The trials whose decision is not the same as at the last call, with their verdicts.
    pub fn new_decisions(&mut self) -> Vec<(String, Verdict)> {
        let named = self.named.iter_mut();
        named.filter_map(|(id, one)| Some((id.clone(), one.new_decision()?))).collect()
    }

    /// Call this when no more outcomes will come.
    pub fn end(&mut self) {
        for one in self.named.values_mut().chain([&mut self.all]) {
            one.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        source::{Answer, Attribution, Cause, NoAnswer},
        trial::Coverage,
    };
    use Outcome::{Failure, Success};
    use canary_judge::{Counts, Decision, Outcome, Settings};

    /// Trials, the time, and the number of the next request.
    struct Watched {
        trials: Trials,
        now: Instant,
        number: u64,
    }

    const BROKEN: &str = "appinfo-canary-broken-c66665c44-x2z4v";
    const FIXED: &str = "appinfo-canary-fixed-744f96dc75-x2z4v";

    impl Watched {
        fn new() -> Self {
            let now = Instant::now();
            let trial = Trial::new(Settings::default(), None, Coverage::Sample, now);
            Self { trials: Trials::new(trial), now, number: 0 }
        }

        /// A request that takes a millisecond.
        fn respond(&mut self, response: Response) {
            let sent = self.now;
            self.now += Duration::from_millis(1);
            let observation = Observation { number: self.number, sent, response };
            self.number += 1;
            self.trials.observe(&Seen::Request(observation), self.now);
        }

        fn answer(&mut self, release: Release, outcome: Outcome, pod: Option<&str>) {
            let pod = pod.map(str::to_owned);
            let attribution = Attribution::Release(release);
            self.respond(Response::Answer(Answer { attribution, outcome, latency: None, pod, info: None }));
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
            let (since, length) = (Some(self.now), Duration::from_secs(1));
            self.now += length;
            let canary = canary.iter().map(|(hash, counts)| ((*hash).to_owned(), *counts)).collect();
            let interval = Interval { since, length, stable, canary };
            self.trials.observe(&Seen::Interval(interval), self.now);
        }

        fn ask(&mut self, id: Option<&str>) -> String {
            self.trials.ask(id, self.now).expect("room")
        }

        fn decision(&self, id: &str) -> &'static str {
            crate::view::word(&self.trials.get(id).expect("a trial").trial.verdict().decision)
        }

        fn counts(&self, id: &str, release: Release) -> Counts {
            self.trials.get(id).expect("a trial").trial.tally().of_release(release)
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
        assert_eq!((watched.ask(None).as_str(), watched.decision("744f96dc75")), ("744f96dc75", "promote"));
        assert_eq!(watched.decision("c66665c44"), "roll_back");
    }

    #[test]
    fn another_canarys_last_answers_do_not_count_in_the_trial_of_the_next() {
        let mut watched = Watched::new();
        watched.rounds(50, BROKEN, Failure);
        for _ in 0..400 {
            watched.rounds(1, FIXED, Success);
            watched.rounds(1, BROKEN, Failure);
        }
        assert_eq!((watched.ask(None).as_str(), watched.decision("744f96dc75")), ("744f96dc75", "promote"));
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
        watched.rounds(ANSWERS_UNTIL_BACK - 1, BROKEN, Success);
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
    fn a_canary_that_tells_no_version_has_a_trial_which_its_version_takes_over() {
        let mut watched = Watched::new();
        (0..5).for_each(|_| watched.answer(Release::Canary, Failure, None));
        assert_eq!(watched.ask(None), UNKNOWN_VERSION);
        watched.rounds(1, BROKEN, Failure);
        watched.answer(Release::Canary, Failure, None);
        assert_eq!(watched.ask(None), UNKNOWN_VERSION);
        assert_eq!(watched.ask(Some("c66665c44")), UNKNOWN_VERSION, "it is that version's");
        assert_eq!(watched.counts(UNKNOWN_VERSION, Release::Canary).requests, 6, "all but the very first");
        watched.rounds(1, FIXED, Success);
        assert_eq!(watched.ask(None), "744f96dc75");
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
        assert_eq!(watched.ask(None), "744f96dc75");
    }

    #[test]
    fn a_trial_named_by_the_hash_is_that_versions_whoever_comes_first() {
        let mut watched = Watched::new();
        watched.rounds(1, BROKEN, Failure);
        assert_eq!(watched.ask(Some("744f96dc75")), "744f96dc75");
        watched.rounds(20, BROKEN, Failure); // the last answers of the revision before
        watched.rounds(401, FIXED, Success);
        assert_eq!((watched.decision("744f96dc75"), watched.trials.count()), ("promote", 2));
        assert_eq!(
            watched.counts("744f96dc75", Release::Canary),
            Counts { requests: 400, failures: 0, slow: 0 }
        );
        assert_eq!(watched.ask(None), "744f96dc75");
        assert_eq!(watched.ask(Some("appinfo-canary-fixed-744f96dc75")), "744f96dc75");
    }

    #[test]
    fn requests_without_an_answer_count_in_every_trial() {
        let mut watched = Watched::new();
        watched.rounds(2, BROKEN, Failure);
        watched.ask(Some("build-7"));
        let (attribution, cause) = (Attribution::NoAnswer, Cause::TimedOut);
        let lost = NoAnswer { attribution, cause, detail: String::new() };
        (0..3).for_each(|_| watched.respond(Response::NoAnswer(lost.clone())));
        for id in ["c66665c44", "build-7", NO_CANARY] {
            let tally = watched.trials.get(id).expect("a trial").trial.tally();
            assert_eq!(tally.sides().unattributed, 3, "{id}");
        }
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
        let answer = Answer { attribution, outcome: Failure, latency: None, pod: None, info: None };
        let late = Observation { number, sent, response: Response::Answer(answer) };
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
        assert_eq!(watched.trials.ask(Some("one-more"), watched.now), Err(TooMany));
        watched.now += STAYS;
        assert_eq!(watched.ask(Some("build-1")), "build-1", "asked for again");
        assert_eq!(watched.ask(Some("one-more")), "one-more");
        assert_eq!(watched.trials.count(), MOST_TRIALS);
        let exists = |id: &str| watched.trials.get(id).is_some();
        assert!(exists("build-1") && exists("c66665c44") && !exists("build-2"));
    }

    #[test]
    fn a_version_without_room_begins_as_soon_as_there_is_some() {
        let mut watched = Watched::new();
        (0..MOST_TRIALS).for_each(|number| drop(watched.ask(Some(&format!("build-{number}")))));
        watched.rounds(3, BROKEN, Failure);
        assert_eq!(watched.ask(None), NO_CANARY);
        watched.now += STAYS;
        watched.rounds(1, BROKEN, Failure);
        assert_eq!(watched.ask(None), "c66665c44");
    }

    #[test]
    fn each_new_decision_is_named_once() {
        let mut watched = Watched::new();
        let new = |watched: &mut Watched| -> Vec<_> {
            let decisions = watched.trials.new_decisions().into_iter();
            decisions.map(|(id, verdict)| (id, crate::view::word(&verdict.decision))).collect()
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
        assert_eq!(watched.trials.reset(None, watched.now).as_deref(), Some("c66665c44"));
        assert_eq!((watched.decision("c66665c44"), watched.decision("build-7")), ("not_yet", "roll_back"));
        assert_eq!(watched.trials.reset(Some("build-7"), watched.now).as_deref(), Some("build-7"));
        assert_eq!(watched.decision("build-7"), "not_yet");
        assert_eq!(watched.trials.reset(Some("unknown"), watched.now), None);
        assert_eq!(Watched::new().trials.reset(None, watched.now).as_deref(), Some(NO_CANARY));
    }

    #[test]
    fn a_rollout_that_has_ended_begins_anew_when_it_is_asked_for_again() {
        let mut watched = Watched::new();
        let ask = |watched: &mut Watched, id| watched.trials.ask_for_rollout(id, watched.now).expect("room");
        ask(&mut watched, "flagger/a/b/1");
        ask(&mut watched, "flagger/a/c/1");
        watched.rounds(50, BROKEN, Failure);
        ask(&mut watched, "flagger/a/b/1");
        assert_eq!(watched.decision("flagger/a/b/1"), "roll_back");
        watched.trials.end_rollouts("flagger/a/b/");
        assert_eq!(watched.ask(Some("flagger/a/b/1")), "flagger/a/b/1");
        assert_eq!(watched.decision("flagger/a/b/1"), "roll_back", "it may still be looked at");
        ask(&mut watched, "flagger/a/b/1");
        ask(&mut watched, "flagger/a/c/1");
        assert_eq!(watched.decision("flagger/a/b/1"), "not_yet");
        assert_eq!(watched.decision("flagger/a/c/1"), "roll_back");
    }

    #[test]
    fn intervals_are_judged_too() {
        let mut watched = Watched::new();
        let counts = |requests| Counts { requests, failures: 0, slow: 0 };
        for _ in 0..45 {
            watched.count(counts(30), &[("", counts(10))]);
        }
        assert_eq!(watched.ask(None), UNKNOWN_VERSION);
        let verdict = watched.trials.current().1.trial.verdict();
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
        (0..2).for_each(|_| watched.count(counts(30, 0), &[("c66665c44", counts(10, 10))]));
        assert_eq!(watched.ask(None), "c66665c44", "it is back");
    }

    #[test]
    fn a_trial_changes_with_what_it_takes_in_and_nothing_else() {
        let mut watched = Watched::new();
        watched.rounds(2, BROKEN, Failure);
        watched.rounds(2, FIXED, Success);
        let changes = |watched: &Watched, id| watched.trials.get(id).expect("a trial").changes();
        let (broken, fixed) = (changes(&watched, "c66665c44"), changes(&watched, "744f96dc75"));
        watched.answer(Release::Canary, Success, Some(FIXED));
        assert_eq!((changes(&watched, "c66665c44"), changes(&watched, "744f96dc75")), (broken, fixed + 1));
    }
}
