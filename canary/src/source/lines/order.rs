//! Whether lines that tell when their requests were sent are in order.
//!
//! They should be in the order of sending. Logs are often in the order in which requests ended, and that is accepted,
//! too. In both orders, no request has ended before one of an earlier line was sent: it was sent later itself, or it
//! ended later. So a request that had ended well before that is in the wrong place: the log is newest first, or several
//! logs of the same time follow each other.
//!
//! A log that is newest first is refused before much of it is judged: its first requests go back, and none goes
//! forward.

use std::{
    ops::Range,
    time::{Duration, UNIX_EPOCH},
};

use serde_json::Value;

use crate::foreign::{self, bounded};

/// How long before the newest sending a request may have ended, in seconds. Clocks of several machines differ, and what
/// collects their logs writes from buffers.
const LATEST: f64 = 60.0;
/// How long a request takes at most, in seconds, if its line does not tell.
const LONGEST: f64 = 300.0;
/// If the first lines tell how long requests took: so many steps back and none forward are an order of newest first.
const STEPS_BACK: u32 = 3;
/// The same of lines that do not: requests that end at the same time may have been sent in any order. The probability
/// that they are in this one is 1 in 11!, which is 40 million.
const STEPS_BACK_WITHOUT_TIMES: u32 = 10;
/// Without a flag that needs `sent`, a number is a time only between these seconds since 1970, those of 2001 and 2286.
/// It may also be a number of bytes.
const CLOCK: Range<f64> = 1e9..1e10;
/// The text of a time has no later one.
const END_OF_9999: f64 = 253_402_300_799.0;

/// What the lines so far have told.
#[derive(Debug, Default)]
pub(super) struct Sending {
    newest: Option<f64>,
    /// The first lines, while no step goes forward.
    beginning: Option<Beginning>,
}

/// The first lines of an order that may be newest first.
#[derive(Debug)]
struct Beginning {
    /// Of the requests since the last step: when the last one was sent, and when the first one had ended.
    last: (f64, f64),
    steps_back: u32,
    tell_times: bool,
}

impl Sending {
    /// Takes the next request: when it was sent, in seconds, and how long it took.
    ///
    /// # Errors
    /// If the lines are not in order. `told` is the time as its line tells it.
    pub(super) fn next(&mut self, sent: f64, took: Option<Duration>, told: &Value) -> Result<(), String> {
        let ended = sent + took.map_or(0.0, |took| took.as_secs_f64());
        let is_newest_first = match (&mut self.beginning, self.newest) {
            (Some(beginning), _) => match beginning.step(sent, ended, took.is_some()) {
                Step::Forward => {
                    self.beginning = None;
                    false
                }
                Step::NewestFirst => true,
                Step::Unclear => false,
            },
            (None, None) => {
                let tell_times = took.is_some();
                self.beginning = Some(Beginning { last: (sent, ended), steps_back: 0, tell_times });
                false
            }
            (None, Some(_)) => false,
        };
        let newest = self.newest.map_or(sent, |newest| newest.max(sent));
        self.newest = Some(newest);
        let may_have_ended = if took.is_some() { ended } else { sent + LONGEST };
        if is_newest_first || may_have_ended + LATEST < newest {
            return Err(out_of_order(told, newest, is_newest_first));
        }
        Ok(())
    }
}

enum Step {
    Forward,
    NewestFirst,
    /// It may be in either order so far.
    Unclear,
}

impl Beginning {
    fn step(&mut self, sent: f64, ended: f64, tells_time: bool) -> Step {
        self.tell_times &= tells_time;
        let (last_sent, last_ended) = self.last;
        if sent > last_ended {
            return Step::Forward;
        }
        if ended < last_sent {
            self.last = (sent, ended);
            self.steps_back += 1;
        } else {
            self.last = (last_sent.max(sent), last_ended.min(ended));
        }
        let most = if self.tell_times { STEPS_BACK } else { STEPS_BACK_WITHOUT_TIMES };
        if self.steps_back >= most { Step::NewestFirst } else { Step::Unclear }
    }
}

fn out_of_order(told: &Value, newest: f64, is_newest_first: bool) -> String {
    let told_newest = match told {
        Value::String(_) => clock(newest),
        _ => newest.to_string(),
    };
    let told = bounded(told.as_str().unwrap_or(&told.to_string()), foreign::LABEL);
    let what = if is_newest_first {
        "the lines so far go back in time"
    } else {
        "this request had ended well before that one was sent"
    };
    format!(
        "sent is {told}, and a line before it has {told_newest}: {what}. The lines must be in the order of sending, oldest \
         first: `tac FILE` turns a log around that is newest first, and `jq -cs 'sort_by(.sent)[]' FILE` sorts any"
    )
}

/// A time in seconds since 1970 as text.
fn clock(seconds: f64) -> String {
    if !(0.0..END_OF_9999).contains(&seconds) {
        return seconds.to_string();
    }
    // in milliseconds, and rounded: an f64 has no exact microseconds
    let milliseconds = Duration::from_secs_f64(seconds + 0.000_5).as_millis();
    let since = Duration::from_millis(u64::try_from(milliseconds).unwrap_or_default());
    humantime::format_rfc3339_millis(UNIX_EPOCH + since).to_string().replace(".000Z", "Z")
}

/// Whether this is the time of a clock for certain, and not another number with that name.
pub(super) fn is_of_clock(told: &Value) -> bool {
    told.is_string() || told.as_f64().is_some_and(|seconds| CLOCK.contains(&seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastrand::Rng;

    /// When a request was sent, and how long it took, in seconds.
    type Request = (f64, f64);

    /// A log of half an hour in the order of sending, 2 or 50 requests a second: most take milliseconds, some seconds,
    /// some time out, and for a while all do.
    fn log(seed: u64) -> Vec<Request> {
        let mut rng = Rng::with_seed(seed);
        let rate = if seed.is_multiple_of(2) { 2.0 } else { 50.0 };
        let hangs = rng.f64() * 1500.0;
        let (mut sent, mut log) = (1_763_971_200.0, Vec::new());
        while sent < 1_763_973_000.0 {
            sent -= rng.f64().ln() / rate;
            let in_outage = (hangs..hangs + 45.0).contains(&(sent - 1_763_971_200.0));
            let took = match rng.f64() {
                _ if in_outage => 60.0,
                under if under < 0.001 => 200.0,
                under if under < 0.02 => 30.0,
                under if under < 0.2 => rng.f64() * 5.0,
                _ => 0.001 + rng.f64() * 0.05,
            };
            log.push((sent, took));
        }
        log
    }

    fn by_end(mut log: Vec<Request>) -> Vec<Request> {
        log.sort_by(|one, other| (one.0 + one.1).total_cmp(&(other.0 + other.1)));
        log
    }

    /// The number of the line that is refused, from 1, and why.
    fn refused(log: &[Request], tells_times: bool) -> Option<(usize, String)> {
        let mut order = Sending::default();
        log.iter().zip(1..).find_map(|((sent, took), number)| {
            let took = tells_times.then(|| Duration::from_secs_f64(*took));
            order.next(*sent, took, &Value::from(*sent)).err().map(|error| (number, error))
        })
    }

    fn in_whole_seconds(log: &[Request]) -> Vec<Request> {
        log.iter().map(|(sent, took)| (sent.floor(), *took)).collect()
    }

    fn reversed(log: &[Request]) -> Vec<Request> {
        log.iter().rev().copied().collect()
    }

    #[test]
    fn an_honest_log_is_never_refused() {
        for seed in 0..8 {
            for log in [log(seed), by_end(log(seed))] {
                // a later beginning, as of a file that was rotated
                for from in [0, 1, 10, log.len() / 3, log.len() / 2] {
                    for log in [log[from..].to_vec(), in_whole_seconds(&log[from..])] {
                        for tells_times in [true, false] {
                            assert_eq!(refused(&log, tells_times), None, "{seed} {from} {tells_times}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_log_that_is_newest_first_is_refused_before_much_of_it_is_judged() {
        for seed in 0..8 {
            for (log, tells_times, most) in [
                (log(seed), true, 400),
                (log(seed), false, 11),
                (by_end(log(seed)), true, 400),
                (in_whole_seconds(&log(seed)), false, 700),
            ] {
                let (number, why) = refused(&reversed(&log), tells_times).expect("refused");
                assert!(number <= most, "{seed} {tells_times}: line {number}: {why}");
                assert!(why.contains("tac FILE"), "{why}");
            }
            let noisy = reversed(&by_end(log(seed)));
            assert!(refused(&noisy, false).is_some(), "{seed}: without times, after some minutes");
        }
        let short: Vec<Request> = (0..20).map(|number| (1e9 - f64::from(number), 0.01)).collect();
        assert_eq!(refused(&short, true).map(|(number, _)| number), Some(4));
        assert_eq!(refused(&short, false).map(|(number, _)| number), Some(11));
    }

    #[test]
    fn logs_of_the_same_time_one_after_the_other_are_refused_and_those_of_times_that_follow_are_not() {
        for seed in 0..8 {
            for tells_times in [true, false] {
                for (log, other) in [(log(seed), log(seed + 40)), (by_end(log(seed)), by_end(log(seed + 40)))]
                {
                    let both = [&log[..], &other].concat();
                    let (number, why) = refused(&both, tells_times).expect("refused");
                    assert!(number > log.len() && why.contains("sort_by"), "{seed}: line {number}: {why}");
                    let half = log.len() / 2;
                    assert_eq!(refused(&[&log[..half], &log[half..]].concat(), tells_times), None);
                }
            }
        }
    }

    #[test]
    fn the_message_has_both_times_as_the_lines_have_them() {
        let mut order = Sending::default();
        let text = |text: &str| Value::from(text);
        assert_eq!(order.next(1_763_971_200.5, None, &text("2025-11-24T08:00:00.5Z")), Ok(()));
        let error = order.next(1_763_970_000.0, None, &text("2025-11-24T07:40:00Z")).expect_err("20 minutes");
        assert!(
            error.starts_with(
                "sent is 2025-11-24T07:40:00Z, and a line before it has 2025-11-24T08:00:00.500Z: this request had ended \
                 well before that one was sent."
            ),
            "{error}"
        );
        assert_eq!(clock(1_763_971_200.0), "2025-11-24T08:00:00Z");
        assert_eq!(clock(1_763_971_200.123), "2025-11-24T08:00:00.123Z");
        for newest in [-1.0, 1e300] {
            assert_eq!(clock(newest), newest.to_string());
        }
    }

    #[test]
    fn a_number_that_is_no_time_of_the_clock_is_another_thing_with_that_name() {
        for (told, is_time) in
            [("512", false), ("1763971200.5", true), ("-1", false), ("null", false), ("{}", false)]
        {
            assert_eq!(is_of_clock(&serde_json::from_str(told).expect("JSON")), is_time, "{told}");
        }
    }
}
