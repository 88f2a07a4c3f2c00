//! Tells when answers stop, and when they come back.

use std::time::{Duration, Instant};

use crate::source::{Response, Seen};

/// Answers have stopped after this time without one, while there were requests.
const STOPPED_AFTER: Duration = Duration::from_secs(10);

/// The time without answers.
#[derive(Debug)]
pub(super) struct Outage {
    last_answer: Instant,
    /// The number of requests without an answer since, and of scrapes without data.
    missed: u64,
    /// Whether it was told.
    told: bool,
}

impl Outage {
    pub(super) fn new(now: Instant) -> Self {
        Self { last_answer: now, missed: 0, told: false }
    }

    /// Takes in an outcome. Returns a message if answers have stopped or are back.
    pub(super) fn observe(&mut self, seen: &Seen, now: Instant) -> Option<String> {
        if matches!(seen, Seen::Health(_)) {
            return None; // it tells nothing about answers
        }
        let answered = match seen {
            Seen::Request(observation) => matches!(observation.response, Response::Answer(_)),
            Seen::Interval(_) => true,
            Seen::Health(_) | Seen::Trouble(_) => false,
        };
        let silent_for = now.saturating_duration_since(self.last_answer);
        let seconds = humantime::format_duration(Duration::from_secs(silent_for.as_secs()));
        let missed = match seen {
            Seen::Request(_) => format!("{} requests had no answer", self.missed + u64::from(!answered)),
            Seen::Interval(_) | Seen::Health(_) | Seen::Trouble(_) => "no counters were read".to_owned(),
        };
        if answered {
            let back = self.told.then(|| format!("answers are back after {seconds}, in which {missed}"));
            *self = Self::new(now);
            return back;
        }
        self.missed += 1;
        if self.told || silent_for < STOPPED_AFTER {
            return None;
        }
        self.told = true;
        Some(format!("answers have stopped: for {seconds}, {missed}"))
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
        let mut outage = Outage::new(start);
        let mut messages = Vec::new();
        for tenth in 0..700 {
            let now = start + tenth * Duration::from_millis(100);
            let response = if (50..600).contains(&tenth) {
                let (attribution, cause) = (Attribution::NoAnswer, Cause::Refused);
                Response::NoAnswer(NoAnswer { attribution, cause, detail: String::new(), pod: None })
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
            let seen =
                Seen::Request(Observation { number: tenth.into(), sent: now, stratum: None, response });
            messages.extend(outage.observe(&seen, now));
        }
        assert_eq!(
            messages,
            [
                "answers have stopped: for 10s, 100 requests had no answer",
                "answers are back after 55s, in which 550 requests had no answer",
            ]
        );
    }
}
