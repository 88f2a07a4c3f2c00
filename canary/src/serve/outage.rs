//! Tells when answers stop, and when they come back. The page also shows when answers come, but all of them fail.

use std::{
    fmt,
    time::{Duration, Instant},
};

use super::Start;
use crate::{
    source::{Response, Seen},
    view::page,
};

/// Answers have stopped after this time without one, while there were requests.
const STOPPED_AFTER: Duration = Duration::from_secs(10);
/// The page shows it after this time, and after so many requests.
const SHOWN_AFTER: Duration = Duration::from_secs(3);
const SHOWN_FROM: u64 = 3;

/// The time without answers, and without successes.
#[derive(Debug, Default)]
pub(super) struct Outage {
    /// Requests without an answer, and scrapes without data.
    unanswered: Bad,
    /// The same, and answers that are failures.
    failed: Bad,
    /// Whether it was told that answers have stopped.
    told: bool,
}

/// What is bad without a break.
#[derive(Debug, Default)]
struct Bad {
    /// When the first of it was sent.
    since: Option<Instant>,
    number: u64,
    /// The last cause, in words.
    cause: String,
}

impl Bad {
    fn add(&mut self, sent: Instant, cause: impl fmt::Display) {
        self.since.get_or_insert(sent);
        self.number += 1;
        self.cause = cause.to_string();
    }

    fn lasts(&self, now: Instant) -> Duration {
        self.since.map(|since| now.saturating_duration_since(since)).unwrap_or_default()
    }

    fn shown(&self, kind: &'static str, start: Start, now: Instant) -> Option<page::Outage> {
        let since = self.since.filter(|_| self.number >= SHOWN_FROM && self.lasts(now) >= SHOWN_AFTER)?;
        let (since, seconds) = (start.text_of(since), self.lasts(now).as_secs());
        Some(page::Outage { kind, since, seconds, requests: self.number, cause: self.cause.clone() })
    }
}

impl Outage {
    /// Takes in an outcome. Returns a message if answers have stopped or are back.
    pub(super) fn observe(&mut self, seen: &Seen, now: Instant) -> Option<String> {
        let answered = match seen {
            Seen::Health(_) => return None, // it tells nothing about answers
            Seen::Interval(interval) => {
                let counts = interval.batch().total();
                match counts.successes() {
                    0 if counts.requests > 0 => self.failed.add(interval.at, "counted as failures"),
                    0 => {}
                    _ => self.failed = Bad::default(),
                }
                true
            }
            Seen::Request(observation) => match &observation.response {
                Response::Answer(answer) => {
                    match answer.status {
                        _ if !answer.outcome.failed() => self.failed = Bad::default(),
                        Some(status) => self.failed.add(observation.sent, format_args!("status {status}")),
                        None => self.failed.add(observation.sent, "they are failures"),
                    }
                    true
                }
                Response::NoAnswer(reason) => {
                    let told = if reason.detail.is_empty() {
                        reason.cause.to_string()
                    } else {
                        reason.detail.clone()
                    };
                    self.unanswered.add(observation.sent, &told);
                    self.failed.add(observation.sent, told);
                    false
                }
                Response::Unsent(why) => {
                    self.unanswered.add(observation.sent, why);
                    false
                }
            },
            Seen::Trouble(why) => {
                self.unanswered.add(now, why);
                false
            }
        };
        let silent_for = self.unanswered.lasts(now);
        let seconds = humantime::format_duration(Duration::from_secs(silent_for.as_secs()));
        let missed = match seen {
            Seen::Request(_) => format!("{} requests had no answer", self.unanswered.number),
            Seen::Interval(_) | Seen::Health(_) | Seen::Trouble(_) => "no counters were read".to_owned(),
        };
        if answered {
            let back = self.told.then(|| format!("answers are back after {seconds}, in which {missed}"));
            (self.unanswered, self.told) = (Bad::default(), false);
            return back;
        }
        if self.told || silent_for < STOPPED_AFTER {
            return None;
        }
        self.told = true;
        Some(format!("answers have stopped: for {seconds}, {missed}"))
    }

    /// What the page shows of it, if it lasts.
    pub(super) fn shown(&self, start: Start, now: Instant) -> Option<page::Outage> {
        let unanswered = self.unanswered.shown("no_answer", start, now);
        unanswered.or_else(|| self.failed.shown("no_success", start, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Answer, Attribution, Cause, NoAnswer, Observation};
    use canary_judge::Outcome;

    #[test]
    fn the_end_of_answers_and_their_return_are_told_once_with_how_many_were_missed() {
        let start = Instant::now();
        let mut outage = Outage::default();
        let mut messages = Vec::new();
        for tenth in 0..700 {
            let now = start + tenth * Duration::from_millis(100);
            let response = if (50..600).contains(&tenth) {
                let (attribution, cause) = (Attribution::NoAnswer, Cause::Refused);
                Response::NoAnswer(NoAnswer {
                    attribution,
                    cause,
                    detail: String::new(),
                    pod: None,
                    info: None,
                })
            } else {
                let (attribution, outcome) = (Attribution::Unnamed, Outcome::Failure);
                Response::Answer(Answer {
                    attribution,
                    outcome,
                    status: None,
                    latency: None,
                    pod: None,
                    info: None,
                })
            };
            let seen = Seen::Request(Observation {
                number: tenth.into(),
                sent: now,
                started: None,
                stratum: None,
                response,
            });
            messages.extend(outage.observe(&seen, now));
        }
        assert_eq!(
            messages,
            [
                "answers have stopped: for 10s, 101 requests had no answer",
                "answers are back after 55s, in which 550 requests had no answer",
            ]
        );
    }

    fn outcome(number: u64, sent: Instant, response: Response) -> Seen {
        Seen::Request(Observation { number, sent, started: None, stratum: None, response })
    }

    #[test]
    fn the_page_shows_a_dead_service_with_its_cause_and_one_whose_answers_all_fail() {
        let (start, mut outage) = (Start::now(), Outage::default());
        let at = |seconds| start.instant + Duration::from_secs(seconds);
        let refused = || {
            let (attribution, cause) = (Attribution::NoAnswer, Cause::Refused);
            Response::NoAnswer(NoAnswer { attribution, cause, detail: String::new(), pod: None, info: None })
        };
        let answered = |outcome, status| {
            let attribution = Attribution::Unnamed;
            let (status, latency) = (Some(status), None);
            Response::Answer(Answer { attribution, outcome, status, latency, pod: None, info: None })
        };
        // after a long pause, a single request without an answer is no outage
        outage.observe(&outcome(0, at(600), refused()), at(600));
        assert_eq!(outage.shown(start, at(600)), None);
        for second in 601..610 {
            outage.observe(&outcome(second, at(second), refused()), at(second));
        }
        let shown = outage.shown(start, at(609)).expect("it lasts");
        assert_eq!((shown.kind, shown.seconds, shown.requests), ("no_answer", 9, 10));
        assert_eq!((shown.cause.as_str(), &shown.since), ("connection refused", &start.text_of(at(600))));
        for second in 610..620 {
            outage.observe(&outcome(second, at(second), answered(Outcome::Failure, 503)), at(second));
        }
        let shown = outage.shown(start, at(619)).expect("it lasts");
        assert_eq!((shown.kind, shown.requests, shown.cause.as_str()), ("no_success", 20, "status 503"));
        outage.observe(&outcome(620, at(620), answered(Outcome::Success, 200)), at(620));
        assert_eq!(outage.shown(start, at(620)), None);
    }
}
