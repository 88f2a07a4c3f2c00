//! One of the trials.

use std::{
    collections::BTreeMap,
    fmt,
    mem::{self, Discriminant},
    time::{Duration, Instant, SystemTime},
};

use serde::{Deserialize, Serialize};

use crate::{
    moment,
    serve::versions::Version,
    source::{Attribution, Interval, Observation, Response},
    trial::Trial,
    view::page::{History, Rules},
};
use canary_judge::{Absence, Counts, Decision, Verdict};

/// A version answers now if its last answer is not older than this. With counters: than two intervals.
pub(super) const ANSWERS_NOW: Duration = Duration::from_secs(10);
/// Nor does it count as gone before so many answers of other versions have come: it may get few requests.
const ANSWERS_OF_OTHERS: u64 = 10;
/// An engine that has not asked for this long is idle.
pub(super) const IDLE_AFTER: Duration = Duration::from_secs(30);

/// A first step that came to nothing is allowed again after this time.
const FIRST_STEP_AGAIN: Duration = Duration::from_secs(600);

/// The answers of the canary that a trial takes. It takes everything else, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(super) enum Takes {
    /// All: the trial has a name of its caller.
    All,
    /// Those that tell this version.
    Version(Version),
    /// Those that tell no version.
    NoVersion,
}

/// The canary's version in an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Canary {
    /// It is not an answer of the canary.
    No,
    /// It is the canary's, of an unknown version.
    Unknown,
    /// It is the canary's, of this version.
    Of(Version),
}

/// Whether the rollout of a trial is over, so that the next request of an engine begins the trial anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
enum Over {
    No,
    /// A hook without a token said so. It counts once the canary is silent.
    OnceSilent,
    Yes,
}

/// A trial, with what the server keeps about it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct OnTrial {
    pub(super) trial: Trial,
    pub(super) takes: Takes,
    /// Its place in the order in which trials were made.
    pub(super) number: u64,
    /// When a client asked for it last, and how often.
    #[serde(with = "moment")]
    pub(super) asked: (Instant, u64),
    /// When an engine asked for it last. Only an engine's trial is the trial of a rollout.
    #[serde(with = "moment")]
    engine: Option<Instant>,
    over: Over,
    /// Whether an engine has heard of the roll-back.
    told: bool,
    /// When the first step of the traffic was allowed.
    #[serde(with = "moment")]
    first_step: Option<Instant>,
    #[serde(with = "moment")]
    last_answer: Option<Instant>,
    /// How long an answer counts as one of now.
    window: Duration,
    /// Since the last answer of its canary.
    answers_of_others: u64,
    changes: u64,
    /// The number of changes at the last look at the decision, and that decision.
    #[serde(skip, default = "not_looked_at")]
    looked_at: (u64, Discriminant<Decision>),
    #[serde(skip)]
    history: History,
    #[serde(skip)]
    rules: Rules,
    /// The last time in this trial in which nothing was seen, because the server did not run.
    gap: Option<Gap>,
}

/// A time in which nothing was seen, because the server did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Gap {
    /// The last time that is known. It is later than `until` if the clock was set back in between.
    since: SystemTime,
    /// When the server went on.
    until: SystemTime,
}

impl Gap {
    /// From the last time that is known, to the time when the server went on.
    pub fn new(since: SystemTime, until: SystemTime) -> Self {
        Self { since, until }
    }

    /// Its two ends as text, in UTC. If the clock was set back, its length is not known, and both are when the server
    /// went on.
    pub fn ends(&self) -> [String; 2] {
        [self.since.min(self.until), self.until].map(|at| humantime::format_rfc3339_seconds(at).to_string())
    }

    /// How far the clock was set back, at least, if it was by a second or more.
    pub fn set_back(&self) -> Option<Duration> {
        let set_back = self.since.duration_since(self.until).ok()?;
        (set_back.as_secs() > 0).then(|| Duration::from_secs(set_back.as_secs()))
    }
}

/// `Nothing was seen between 10:42:07 and 10:47:00 UTC.`
impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [since, until] = self.ends();
        if let Some(set_back) = self.set_back() {
            let set_back = humantime::format_duration(set_back);
            return write!(
                f,
                "Nothing was seen for a time before {until}. How long is not known: the clock was set back by at least \
                 {set_back}, and earlier times are told by the new clock."
            );
        }
        if since == until {
            return write!(f, "Nothing was seen for less than a second, at {until}.");
        }
        match (since.split_once('T'), until.split_once('T')) {
            (Some((day, since)), Some((same, until))) if day == same => {
                let [since, until] = [since, until].map(|time| time.trim_end_matches('Z'));
                write!(f, "Nothing was seen between {since} and {until} UTC.")
            }
            _ => write!(f, "Nothing was seen between {since} and {until}."),
        }
    }
}

fn not_looked_at() -> (u64, Discriminant<Decision>) {
    (0, mem::discriminant(&Decision::NotYet))
}

impl Canary {
    /// Whether a trial that `takes` these answers counts it.
    fn is_taken(self, takes: Takes) -> bool {
        match (self, takes) {
            (Self::No, _) | (_, Takes::All) | (Self::Unknown, Takes::NoVersion) => true,
            (Self::Of(version), Takes::Version(own)) => version == own,
            (Self::Of(_), Takes::NoVersion) | (Self::Unknown, Takes::Version(_)) => false,
        }
    }
}

impl OnTrial {
    pub(super) fn new(trial: Trial, takes: Takes, number: u64, now: Instant) -> Self {
        Self {
            trial,
            takes,
            number,
            asked: (now, 0),
            engine: None,
            over: Over::No,
            told: false,
            first_step: None,
            last_answer: None,
            window: ANSWERS_NOW,
            answers_of_others: 0,
            changes: 0,
            looked_at: not_looked_at(),
            history: History::default(),
            rules: Rules::default(),
            gap: None,
        }
    }

    /// The requests, and the verdict on them.
    pub fn trial(&self) -> &Trial {
        &self.trial
    }

    /// Says that a person has paused the requests, or goes on.
    pub(super) fn pause(&mut self, paused: bool, now: Instant) {
        self.trial.pause(paused, now);
        self.changes += 1;
    }

    /// Its course.
    pub(in crate::serve) fn history(&self) -> &History {
        &self.history
    }

    /// What rules of thumb say about the same requests.
    pub(in crate::serve) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The number of changes.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Starts it again.
    pub(super) fn reset(&mut self, now: Instant) {
        self.trial.reset(now);
        self.history = History::default();
        self.rules = Rules::default();
        (self.over, self.told, self.gap, self.first_step) = (Over::No, false, None, None);
        self.changes += 1;
    }

    /// Goes on after a time in which nothing was seen. No engine could ask in it, so it does not count as idle. `false` if
    /// the trial cannot be one.
    pub(super) fn resume(&mut self, gap: Gap, like: &Trial) -> bool {
        let length = gap.until.duration_since(gap.since).unwrap_or_default();
        self.engine = self.engine.map(|asked| asked.checked_add(length).unwrap_or(asked));
        self.gap = Some(gap);
        self.changes = self.changes.wrapping_add(1);
        self.trial.resume(like)
    }

    /// The last time in this trial in which nothing was seen.
    pub fn gap(&self) -> Option<Gap> {
        self.gap
    }

    /// Notes that a client asks for it.
    pub(super) fn is_asked(&mut self, now: Instant) {
        self.asked = (now, self.asked.1.saturating_add(1));
    }

    /// Notes that an engine asks for it. If its rollout is over, it is reset, and the answer is true.
    pub(super) fn is_asked_by_engine(&mut self, now: Instant) -> bool {
        let over = self.is_over(now);
        if over {
            self.reset(now);
        }
        self.engine = Some(now);
        self.told |= self.is_rolled_back(now);
        over
    }

    /// Whether the canary may get its first traffic.
    pub(super) fn may_take_first_step(&mut self, now: Instant) -> bool {
        let is_recent = |at| now.saturating_duration_since(at) < FIRST_STEP_AGAIN;
        let may = !self.first_step.is_some_and(is_recent);
        if may {
            self.first_step = Some(now);
        }
        may
    }

    /// Whether an engine has asked for it.
    pub(super) fn is_rollout(&self) -> bool {
        self.engine.is_some()
    }

    /// When an engine asked for it last.
    pub(super) fn asked_by_engine(&self) -> Option<Instant> {
        self.engine
    }

    /// Ends its rollout. A promotion ends at once. Otherwise, a caller without a token must wait until the canary
    /// is silent. Returns whether it has ended.
    pub(super) fn end_rollout(&mut self, has_token: bool, now: Instant) -> bool {
        let promoted = matches!(self.trial.decided(now), Some(Decision::Promote { .. }));
        if has_token || promoted || self.is_silent(now) {
            self.over = Over::Yes;
        } else if self.over == Over::No {
            self.over = Over::OnceSilent;
        }
        self.over == Over::Yes
    }

    /// A rollout is also over, although no hook has said so, if the canary is silent and the engine has not asked
    /// in that time. But a roll-back that no engine has heard of is kept.
    fn is_over(&self, now: Instant) -> bool {
        let missed = || {
            let idle = |last: Instant| now.saturating_duration_since(last) >= IDLE_AFTER;
            self.last_answer.is_some()
                && self.engine.is_some_and(idle)
                && (self.told || !self.is_rolled_back(now))
        };
        match self.over {
            Over::Yes => true,
            Over::OnceSilent => self.is_silent(now),
            Over::No => self.is_silent(now) && missed(),
        }
    }

    fn is_rolled_back(&self, now: Instant) -> bool {
        matches!(self.trial.decided(now), Some(Decision::RollBack { .. }))
    }

    /// Whether the canary does not answer any more.
    fn is_silent(&self, now: Instant) -> bool {
        self.last_answer.is_none() || matches!(self.trial.absence(now), Some(Absence::Silent(_)))
    }

    /// Whether its version answers now.
    pub(super) fn answers_now(&self, now: Instant) -> bool {
        let is_recent = |last| now.saturating_duration_since(last) <= self.window;
        self.last_answer.is_some_and(|last| is_recent(last) || self.answers_of_others < ANSWERS_OF_OTHERS)
    }

    /// Notes whose answers these are: so many `requests`, in an interval of that `length`.
    fn note(&mut self, canary: Canary, requests: u64, length: Duration, now: Instant) {
        if canary != Canary::No && canary.is_taken(self.takes) {
            if self.is_over(now) {
                self.over = Over::Yes; // the next rollout has begun
            }
            self.last_answer = Some(now);
            self.window = ANSWERS_NOW.max(length.saturating_mul(2));
            self.answers_of_others = 0;
        } else if canary != Canary::No {
            self.answers_of_others += requests;
        }
    }

    /// Counts the result of one request.
    ///
    /// An answer of the canary that tells no version may be of any version. So in the trial of a version, it counts
    /// as one that names no release: a failure counts against the canary, and a success does not count.
    pub(super) fn observe(&mut self, observation: &Observation, canary: Canary, now: Instant) {
        self.note(canary, 1, Duration::ZERO, now);
        if canary.is_taken(self.takes) {
            self.trial.observe(observation);
            self.rules.observe(&self.trial, observation, now);
        } else if canary == Canary::Unknown {
            self.trial.observe(&without_release(observation));
        } else {
            return self.trial.skip(observation.number);
        }
        self.changes += 1;
    }

    /// Counts the part of an interval that it takes. `counts` and `canaries` have the canary's answers and the version
    /// of each hash.
    pub(super) fn observe_interval(
        &mut self,
        interval: &Interval,
        counts: &BTreeMap<&str, Counts>,
        canaries: &BTreeMap<&str, Canary>,
        now: Instant,
    ) {
        let lengths = interval.windows.iter().map(|one| one.window.until - one.window.since);
        let length = Duration::try_from_secs_f64(lengths.fold(0.0, f64::max)).unwrap_or_default();
        // the others first, so that they do not end what is its own
        for own in [false, true] {
            for (hash, canary) in canaries {
                if canary.is_taken(self.takes) == own {
                    self.note(*canary, counts[hash].requests, length, now);
                }
            }
        }
        let takes = self.takes;
        let version = |hash: &str| canaries.get(hash).copied().unwrap_or(Canary::Unknown);
        self.trial.observe_interval(interval, |hash| version(hash).is_taken(takes));
        self.changes += 1;
    }

    /// Records a point of its course.
    pub(super) fn remember(&mut self, now: Instant) {
        self.history.remember(&self.trial, self.changes, now);
    }

    /// The verdict, if its decision is not the same as at the last call. The first is compared with "not yet".
    pub(super) fn new_decision(&mut self, now: Instant) -> Option<Verdict> {
        let (changes, decision) = self.looked_at;
        if changes == self.changes {
            return None;
        }
        let verdict = self.trial.verdict(now);
        self.looked_at = (self.changes, mem::discriminant(&verdict.decision));
        (decision != self.looked_at.1).then_some(verdict)
    }
}

fn without_release(observation: &Observation) -> Observation {
    let mut observation = observation.clone();
    match &mut observation.response {
        Response::Answer(answer) => answer.attribution = Attribution::Unnamed,
        Response::NoAnswer(no_answer) => no_answer.attribution = Attribution::NoAnswer,
        Response::Unsent(_) => {}
    }
    observation
}
