//! Outcomes from another source, as lines of JSON in the order of sending: an access log, the output of a load
//! tester, a simulation.
//!
//! A line is one outcome, or has the counters of one interval of time. Unknown keys are ignored.
//!
//! ```text
//! {"release":"canary","failed":false,"ms":12.5,"pod":"appinfo-canary-1"}
//! {"stable":{"requests":30,"failed":1},"canary":{"requests":10,"failed":0},"unattributed":{"failed":0}}
//! ```
//!
//! In an outcome, `release` is `"stable"`, `"canary"` or null. `ms` is the latency of the answer in
//! milliseconds. `ms` and `pod` may be missing or null. In an interval, missing counters are 0. With `--by`, each line
//! has a stratum: the values of these keys.
//!
//! `--warm-up` and `--episodes` need the time at which each request was sent: `sent` is in seconds since any moment, or
//! as in `2026-11-29T10:42:07.25Z`. A time of the clock also shows whether the lines are in order.

mod flags;
mod order;
mod record;
mod stratum;

use std::{
    borrow::Cow,
    collections::BTreeSet,
    fmt,
    io::{self, BufRead, Read},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use serde::{Deserialize, Deserializer, de, forward_to_deserialize_any};

use self::{
    order::{Sending, is_of_clock},
    record::{Part, Recorded},
};
use super::{Answer, Health, Interval, NoAnswer, Observation, Response};
use crate::{
    foreign::{self, bounded},
    source::Attribution,
};
use canary_judge::{Batch, Counts, Outcome, Release};

/// The maximum length of a line, in bytes without its line end. Otherwise input without line ends could fill
/// the memory.
const MAX_LINE: usize = 1 << 20;
/// The maximum number of requests in one interval. It is more than any service gets. The time to process an
/// interval grows with the square root of its requests.
const MAX_REQUESTS: u64 = 1_000_000_000_000;
/// The maximum number of requests in all intervals. The judge calculates with `f64`, which is exact up to here.
const MAX_TOTAL: u64 = 1 << 53;

pub use self::{
    flags::LinesFlags,
    record::{BEGINNING, End, Header, Recorder},
};

/// The content of a line.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// The result of one request.
    Outcome(Observation),
    /// The counts of one interval of time, of this stratum if lines are divided.
    Interval(Option<Arc<str>>, Batch),
    /// The settings of a record.
    Header(Box<Header>),
    /// What was scraped, in a record.
    Scraped(Interval),
    /// What Kubernetes told about the canary's pods, in a record.
    Health(Health),
    /// A request of a record that was not sent: its number.
    Unsent(u64),
    /// How the trial of a record ended.
    End(End),
}

/// Why there is no next line.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The input cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// The line is invalid.
    #[error("line {number}: {cause}")]
    Bad {
        /// The number of the line, from 1.
        number: u64,
        /// The cause.
        cause: String,
    },
}

/// Reads lines. Empty lines are skipped.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    buffer: Vec<u8>,
    number: u64,
    by: Vec<String>,
    /// Whether a line of a record was read.
    is_record: bool,
    cut: Option<u64>,
    converter: Converter,
}

/// A line, and the time at which it was counted if it is of a record.
#[derive(Clone, Debug, PartialEq)]
pub struct TimedEntry {
    /// Its content.
    pub entry: Entry,
    /// The time; `None` for a line that tells none.
    pub at: Option<Instant>,
}

impl<R: BufRead> Reader<R> {
    /// Reads from `input`. An answer that took longer than `max_latency` counts as a failure. The times of a record are
    /// relative to `began`.
    pub fn new(input: R, max_latency: Option<Duration>, began: Instant) -> Self {
        let converter = Converter {
            max_latency,
            needs_sent: None,
            first_sent: None,
            sending: Sending::default(),
            outcomes: 0,
            counted: 0,
            began,
            numbers: Numbers::default(),
        };
        Self { input, buffer: Vec::new(), number: 0, by: Vec::new(), is_record: false, cut: None, converter }
    }

    /// The same, with lines divided by the values of these keys.
    #[must_use]
    pub fn divided_by(self, by: &[String]) -> Self {
        Self { by: by.to_owned(), ..self }
    }

    /// The same, but each line must be an outcome that tells when the request was sent, or of a record. `needs_sent` is the
    /// flag that needs it, if one does.
    #[must_use]
    pub fn with_times(self, needs_sent: Option<&'static str>) -> Self {
        Self { converter: Converter { needs_sent, ..self.converter }, ..self }
    }

    /// The number of the last line, if it was left out: a record whose writer was killed, or had no space left, ends
    /// within a line.
    pub fn cut(&self) -> Option<u64> {
        self.cut
    }

    fn read(&mut self) -> Result<Option<TimedEntry>, LineError> {
        loop {
            self.buffer.clear();
            let mut line = Read::take(&mut self.input, MAX_LINE as u64 + 1);
            if line.read_until(b'\n', &mut self.buffer)? == 0 {
                return Ok(None);
            }
            self.number += 1;
            let bad = |cause: String| LineError::Bad {
                number: self.number,
                cause: bounded(&cause, foreign::ERROR),
            };
            if self.buffer.len() > MAX_LINE && !self.buffer.ends_with(b"\n") {
                return Err(bad(format!("longer than {MAX_LINE} bytes")));
            }
            let is_last = !self.buffer.ends_with(b"\n");
            let may_be_cut =
                is_last && (self.is_record || (self.number == 1 && begins_a_record(&self.buffer)));
            let text = match std::str::from_utf8(&self.buffer) {
                Err(error) if may_be_cut && error.error_len().is_none() => {
                    self.cut = Some(self.number);
                    return Ok(None);
                }
                text => {
                    text.map_err(|error| bad(format!("not UTF-8 at byte {}", error.valid_up_to() + 1)))?
                }
            };
            // some programs start a file with a byte-order mark
            let text = if self.number == 1 { text.strip_prefix('\u{feff}').unwrap_or(text) } else { text };
            let text = text.trim_ascii();
            if text.is_empty() {
                continue;
            }
            let Object(fields) = match serde_json::from_str::<Object<Fields<'_>>>(text) {
                Err(error) if may_be_cut && error.is_eof() => {
                    self.cut = Some(self.number);
                    return Ok(None);
                }
                fields => fields.map_err(|error| bad(cause(text, &error)))?,
            };
            self.is_record |= fields.canary_record.is_some();
            let stratum = match &self.by[..] {
                [] => None,
                keys => Some(stratum::of(text, keys).map_err(|error| bad(cause(text, &error)))?),
            };
            return self.converter.line(fields, stratum).map(Some).map_err(bad);
        }
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<TimedEntry, LineError>;

    /// The next entry; `None` at the end of the input.
    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// Whether a file with these bytes is a record, maybe only the beginning of one.
pub fn begins_a_record(bytes: &[u8]) -> bool {
    let length = bytes.len().min(BEGINNING.len());
    BEGINNING.as_bytes()[..length] == bytes[..length]
}

/// The cause of an error in a line, with its key. To find the key, the line is parsed again. That is slow, so
/// it is done only for an invalid line.
fn cause(text: &str, error: &serde_json::Error) -> String {
    if error.is_eof() {
        return format!("its JSON is not complete: the line ends at byte {}", error.column());
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let key = serde_path_to_error::deserialize::<_, Object<Fields<'_>>>(&mut json)
        .err()
        .map(|error| error.path().to_string())
        .filter(|path| path != ".");
    let cause = error.to_string().replace(" at line 1 column ", " at byte ");
    key.map_or(cause.clone(), |key| format!("{key}: {cause}"))
}

/// Converts the fields of a line to an [`Entry`]. It also counts outcomes and requests, for their numbers and
/// limits.
#[derive(Debug)]
struct Converter {
    max_latency: Option<Duration>,
    /// The flag because of which lines must tell when a request was sent.
    needs_sent: Option<&'static str>,
    /// That of the first outcome, in seconds.
    first_sent: Option<f64>,
    sending: Sending,
    /// The number of lines so far that were outcomes.
    outcomes: u64,
    /// The number of requests in all intervals so far.
    counted: u64,
    began: Instant,
    numbers: Numbers,
}

/// The numbers of requests so far. Each may occur once, or a request would count twice, or not at all.
#[derive(Debug, Default)]
struct Numbers {
    /// All below have occurred.
    next: u64,
    later: BTreeSet<u64>,
}

impl Numbers {
    fn take(&mut self, number: u64) -> Result<(), String> {
        if number < self.next || !self.later.insert(number) {
            return Err(format!("the request with the number {number} occurs twice"));
        }
        while self.later.remove(&self.next) {
            self.next += 1;
        }
        Ok(())
    }
}

impl Converter {
    fn line(&mut self, fields: Fields<'_>, stratum: Option<Arc<str>>) -> Result<TimedEntry, String> {
        let Some(Object(recorded)) = &fields.canary_record else {
            let entry = self.plain_line(fields, stratum, self.needs_sent)?;
            if let Entry::Outcome(observation) = &entry {
                self.numbers.take(observation.number)?;
            }
            return Ok(TimedEntry { entry, at: None });
        };
        let (began, recorded) = (self.began, recorded.clone());
        let stratum = recorded.stratum().or(stratum);
        let entry = match recorded.part(began)? {
            Part::Header(header) => {
                (self.max_latency, self.needs_sent) = (header.settings.max_latency, None);
                (self.outcomes, self.numbers) = (0, Numbers::default());
                Entry::Header(Box::new(header))
            }
            Part::Interval(interval) => {
                let Batch { stable, canary, .. } = interval.batch();
                self.count(stable.requests + canary.requests)?;
                Entry::Scraped(interval)
            }
            Part::Health(health) => Entry::Health(health),
            Part::Unsent(number) => {
                self.numbers.take(number)?;
                Entry::Unsent(number)
            }
            Part::End(end) => Entry::End(end),
            Part::Outcome => match self.plain_line(fields, stratum, None)? {
                Entry::Outcome(observation) => {
                    let observation = as_recorded(observation, &recorded, began)?;
                    self.numbers.take(observation.number)?;
                    Entry::Outcome(observation)
                }
                line => line,
            },
        };
        Ok(TimedEntry { entry, at: recorded.at()?.map(|at| began + at) })
    }

    /// A line without what a record adds. `needs_sent` is the flag because of which it must tell when its request was sent.
    fn plain_line(
        &mut self,
        fields: Fields<'_>,
        stratum: Option<Arc<str>>,
        needs_sent: Option<&str>,
    ) -> Result<Entry, String> {
        let is_interval = fields.stable.is_some() || fields.canary.is_some() || fields.unattributed.is_some();
        match (fields.release, fields.failed) {
            _ if is_interval && let Some(flag) = needs_sent => {
                Err(format!("has counters: {flag} needs outcomes with the times at which they were sent"))
            }
            (None, None) if is_interval => {
                let batch = self.interval(fields.stable, fields.canary, fields.unattributed)?;
                Ok(Entry::Interval(stratum, batch))
            }
            _ if is_interval => Err("has both an outcome and counters: want one of them".to_owned()),
            (Some(release), Some(failed)) => {
                let sent = match needs_sent {
                    Some(flag) => self.sent(fields.sent.as_ref(), flag)?,
                    None => self.began,
                };
                let outcome = self.outcome(&release, failed, fields.ms, fields.pod)?;
                if let Some(told) = fields.sent.filter(|told| needs_sent.is_some() || is_of_clock(told))
                    && let Some(seconds) = seconds(&told)
                {
                    self.sending.next(seconds, outcome.latency(), &told)?;
                }
                Ok(Entry::Outcome(Observation { sent, stratum, ..outcome }))
            }
            (None, _) => Err("has no key release: want \"stable\", \"canary\" or null".to_owned()),
            (Some(_), None) => Err("has no key failed: want true or false".to_owned()),
        }
    }

    fn interval(
        &mut self,
        stable: Option<Object<Counter>>,
        canary: Option<Object<Counter>>,
        unattributed: Option<Object<Unattributed>>,
    ) -> Result<Batch, String> {
        let counts = |of: &str, counter: Option<Object<Counter>>| counter.unwrap_or_default().0.counts(of);
        let Object(Unattributed { failed }) = unattributed.unwrap_or_default();
        let batch = Batch {
            stable: counts("stable", stable)?,
            canary: counts("canary", canary)?,
            unattributed: failed.count("unattributed.failed")?,
        };
        self.count(batch.stable.requests + batch.canary.requests + batch.unattributed)?;
        Ok(batch)
    }

    fn count(&mut self, requests: u64) -> Result<(), String> {
        self.counted = self.counted.saturating_add(requests);
        if self.counted > MAX_TOTAL {
            return Err(format!("the requests so far are more than {MAX_TOTAL}"));
        }
        Ok(())
    }

    /// When a request was sent.
    fn sent(&mut self, sent: Option<&serde_json::Value>, flag: &str) -> Result<Instant, String> {
        let sent = sent.ok_or_else(|| format!("has no key sent, which {flag} needs"))?;
        let seconds = seconds(sent);
        let first = self.first_sent.or(seconds);
        self.first_sent = first;
        // the lines are in the order of sending
        let after = seconds.zip(first).map(|(seconds, first)| (seconds - first).max(0.0));
        let after = after.and_then(|after| Duration::try_from_secs_f64(after).ok());
        let sent_at = after.and_then(|after| self.began.checked_add(after));
        sent_at.ok_or_else(|| {
            let sent = bounded(&sent.to_string(), foreign::LABEL);
            format!("sent is {sent}: want seconds, or a time such as 2026-11-29T10:42:07.25Z")
        })
    }

    fn outcome(
        &mut self,
        Named(release): &Named<'_>,
        failed: bool,
        ms: Option<Number>,
        pod: Option<Text<'_>>,
    ) -> Result<Observation, String> {
        let attribution = match release.as_ref().map(|Text(release)| &**release) {
            None => Attribution::Unnamed,
            Some("stable") => Attribution::Release(Release::Stable),
            Some("canary") => Attribution::Release(Release::Canary),
            Some(other) => return Err(format!("release is {other:?}: want \"stable\", \"canary\" or null")),
        };
        let latency = ms.map(Number::milliseconds).transpose()?;
        let is_slow = latency.zip(self.max_latency).is_some_and(|(latency, max)| latency > max);
        let outcome = match (failed, is_slow) {
            (true, _) => Outcome::Failure,
            (false, true) => Outcome::Slow,
            (false, false) => Outcome::Success,
        };
        let number = self.outcomes;
        self.outcomes += 1;
        let pod = pod.filter(|Text(pod)| !pod.is_empty()).map(|Text(pod)| bounded(&pod, foreign::NAME));
        let answer = Answer { attribution, outcome, status: None, latency, pod, info: None };
        let response = Response::Answer(answer);
        Ok(Observation { number, sent: self.began, started: None, stratum: None, response })
    }
}

/// The time that the key `sent` tells.
fn seconds(sent: &serde_json::Value) -> Option<f64> {
    let of_text = |text| humantime::parse_rfc3339(text).ok()?.duration_since(SystemTime::UNIX_EPOCH).ok();
    sent.as_f64().or_else(|| of_text(sent.as_str()?).map(|time| time.as_secs_f64()))
}

/// The observation with what its record adds.
fn as_recorded(plain: Observation, recorded: &Recorded, began: Instant) -> Result<Observation, String> {
    let sent = recorded.sent()?.map_or(plain.sent, |sent| began + sent);
    let response = match (plain.response, recorded.cause()) {
        (Response::Answer(answer), Some(cause)) => {
            let attribution = match answer.attribution {
                Attribution::Unnamed => Attribution::NoAnswer,
                named => named,
            };
            Response::NoAnswer(NoAnswer {
                attribution,
                cause,
                detail: cause.to_string(),
                pod: answer.pod,
                info: None,
            })
        }
        (Response::Answer(answer), None) => {
            Response::Answer(Answer { status: recorded.status().or(answer.status), ..answer })
        }
        (response, _) => response,
    };
    let (number, started) = (recorded.number().unwrap_or(plain.number), recorded.started(began)?);
    Ok(Observation { number, sent, started, stratum: plain.stratum, response })
}

/// The keys of a line.
#[derive(Deserialize)]
#[serde(expecting = "an object such as {\"release\":\"canary\",\"failed\":false}")]
struct Fields<'a> {
    /// `Some` if the key is there, even if it is null.
    #[serde(borrow, default, deserialize_with = "present")]
    release: Option<Named<'a>>,
    failed: Option<bool>,
    ms: Option<Number>,
    #[serde(borrow)]
    pod: Option<Text<'a>>,
    /// Needed by some flags, and otherwise any value.
    sent: Option<serde_json::Value>,
    stable: Option<Object<Counter>>,
    canary: Option<Object<Counter>>,
    unattributed: Option<Object<Unattributed>>,
    canary_record: Option<Object<Recorded>>,
}

/// The release that an outcome names, or null.
#[derive(Deserialize)]
struct Named<'a>(#[serde(borrow)] Option<Text<'a>>);

/// Text that is copied only if it contains an escape sequence.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Default, Deserialize)]
#[serde(expecting = "an object such as {\"requests\":10,\"failed\":0}")]
struct Counter {
    requests: Number,
    failed: Number,
}

#[derive(Default, Deserialize)]
#[serde(expecting = "an object such as {\"failed\":0}")]
struct Unattributed {
    failed: Number,
}

impl Counter {
    fn counts(&self, of: &str) -> Result<Counts, String> {
        let count = |number: Number, key| number.count(&format!("{of}.{key}"));
        let (requests, failures) = (count(self.requests, "requests")?, count(self.failed, "failed")?);
        if failures > requests {
            return Err(format!("{of} has failed {failures} of {requests} requests"));
        }
        Ok(Counts { requests, failures, slow: 0 })
    }
}

/// A number in any JSON notation: 30, 30.0 and 3e1 are equal.
#[derive(Clone, Copy, Default)]
struct Number(f64);

impl Number {
    fn count(self, of: &str) -> Result<u64, String> {
        let Self(number) = self;
        if (0.0..=(MAX_REQUESTS as f64)).contains(&number) && number.fract() == 0.0 {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "whole, and in range"
            )]
            return Ok(number as u64);
        }
        Err(format!("{of} is {number}: want a whole number from 0 to {MAX_REQUESTS}"))
    }

    fn milliseconds(self) -> Result<Duration, String> {
        let Self(ms) = self;
        Duration::try_from_secs_f64(ms / 1e3).map_err(|_| format!("ms is {ms}: want a time in milliseconds"))
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }

            fn visit_f64<E>(self, number: f64) -> Result<Number, E> {
                Ok(Number(number))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Number, E> {
                Ok(Number(number as f64))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Number, E> {
                Ok(Number(-(number.unsigned_abs() as f64))) // positive numbers come as u64
            }
        }
        deserializer.deserialize_f64(Visitor)
    }
}

/// A value that must be a JSON object. Without this, serde's derived code also accepts an array of the values.
#[derive(Default)]
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AsMap<D>(D);
        impl<'de, D: Deserializer<'de>> Deserializer<'de> for AsMap<D> {
            type Error = D::Error;

            fn deserialize_any<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
                self.0.deserialize_map(visitor)
            }

            forward_to_deserialize_any! {
                bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
                unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
            }
        }
        T::deserialize(AsMap(deserializer)).map(Self)
    }
}

/// Distinguishes a key that is null from a key that is missing.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: impl AsRef<[u8]>) -> Result<Vec<Entry>, String> {
        lines_with(input, None)
    }

    fn lines_with(input: impl AsRef<[u8]>, max_latency: Option<Duration>) -> Result<Vec<Entry>, String> {
        Reader::new(input.as_ref(), max_latency, Instant::now())
            .map(|read| Ok(read?.entry))
            .collect::<Result<_, LineError>>()
            .map_err(|error| error.to_string())
    }

    /// Of an outcome: number, release, outcome, milliseconds, pod.
    type Fields = (u64, Option<Release>, Outcome, Option<u128>, Option<String>);

    fn outcomes(lines: Vec<Entry>) -> Vec<Fields> {
        let outcome = |line| match line {
            Entry::Outcome(Observation { number, response: Response::Answer(answer), .. }) => {
                let milliseconds = answer.latency.map(|latency| latency.as_millis());
                (number, answer.attribution.release(), answer.outcome, milliseconds, answer.pod)
            }
            other => panic!("{other:?}"),
        };
        lines.into_iter().map(outcome).collect()
    }

    #[test]
    fn the_time_of_sending_is_read_only_where_it_is_needed() {
        let began = Instant::now();
        let read = |input: &str, needs_sent: bool| {
            let reader =
                Reader::new(input.as_bytes(), None, began).with_times(needs_sent.then_some("--warm-up"));
            let sent = |read: Result<TimedEntry, LineError>| match read?.entry {
                Entry::Outcome(observation) => Ok(observation.sent.duration_since(began).as_secs_f64()),
                other => panic!("{other:?}"),
            };
            reader.map(sent).collect::<Result<Vec<f64>, LineError>>().map_err(|error| error.to_string())
        };
        let line = |sent: &str| format!("{{\"release\":\"canary\",\"failed\":true,\"sent\":{sent}}}\n");
        let seconds = line("1763971200.5") + &line("1763971202") + &line("1763971201");
        assert_eq!(read(&seconds, true), Ok(vec![0.0, 1.5, 0.5]));
        let times = line("\"2026-11-29T10:42:07Z\"") + &line("\"2026-11-29T10:43:07.25Z\"");
        assert_eq!(read(&times, true), Ok(vec![0.0, 60.25]));
        for other in ["\"soon\"", "{}", "1e300"] {
            let input = line("0") + &line(other);
            assert_eq!(read(&input, false), Ok(vec![0.0, 0.0]), "unknown keys are ignored");
            assert!(read(&input, true).is_err_and(|error| error.contains("line 2: sent is ")), "{other}");
        }
        assert!(read(FAILED, true).is_err_and(|error| error.contains("has no key sent")));
        let counters = "{\"stable\":{\"requests\":1,\"failed\":0}}";
        assert!(read(counters, true).is_err_and(|error| error.contains("--warm-up needs outcomes")));
    }

    #[test]
    fn the_cut_last_line_of_a_record_is_left_out() {
        let outcome = |number: u32, pod: &str| {
            let record = format!("{{\"at\":0.1,\"sent\":0.1,\"number\":{number}}}");
            format!("{{\"release\":null,\"failed\":true,\"pod\":\"{pod}\",\"canary_record\":{record}}}")
        };
        let whole = outcome(0, "a") + "\n";
        let last = outcome(1, "größe");
        let read = |input: &[u8]| {
            let mut reader = Reader::new(input, None, Instant::now());
            let read: Result<Vec<_>, _> = reader.by_ref().collect();
            (read.map(|entries| entries.len()).map_err(|error| error.to_string()), reader.cut())
        };
        for length in 1..last.len() {
            let cut = &last.as_bytes()[..length];
            assert_eq!(read(&[whole.as_bytes(), cut].concat()), (Ok(1), Some(2)), "{length}");
            let (refused, _) = read(&[whole.as_bytes(), cut, b"\n", whole.as_bytes()].concat());
            assert!(refused.is_err_and(|error| error.starts_with("line 2: ")), "in the middle: {length}");
            let plain = FAILED.as_bytes();
            let (refused, _) = read(&[plain, b"\n", cut].concat());
            assert!(refused.is_err_and(|error| error.starts_with("line 2: ")), "no record: {length}");
        }
        assert_eq!(read((whole.clone() + &last).as_bytes()), (Ok(2), None), "only the line end is missing");
        let (refused, _) = read((whole + "nonsense").as_bytes());
        assert!(refused.is_err(), "not cut, but wrong");
    }

    #[test]
    fn the_cut_first_line_of_a_record_is_left_out_too() {
        let first = concat!(
            r#"{"canary_record":{"version":1,"settings":{"alpha":0.05,"max_failure_rate":0.01,"max_ratio":2.0,"#,
            r#""max_latency_ms":null},"price":{"coverage":"sample","traffic":10.0,"slo":0.999}}}"#
        );
        for length in 1..first.len() {
            let mut reader = Reader::new(&first.as_bytes()[..length], None, Instant::now());
            assert!(reader.next().is_none(), "{length}");
            assert_eq!(reader.cut(), Some(1), "{length}");
            let whole_line = lines([&first.as_bytes()[..length], b"\n"].concat());
            assert!(whole_line.is_err_and(|error| error.starts_with("line 1: ")), "{length}");
        }
        for other in [r#"{"release":"can"#, r#"{"canary":{"requ"#, "[", "{ "] {
            assert!(lines(other).is_err_and(|error| error.starts_with("line 1: ")), "{other}");
        }
    }

    #[test]
    fn lines_that_are_newest_first_are_refused_with_and_without_a_flag_that_needs_their_times() {
        let line =
            |sent: u64| format!("{{\"release\":\"stable\",\"failed\":false,\"ms\":5,\"sent\":{sent}}}\n");
        let log = |times: &[u64]| times.iter().map(|sent| line(*sent)).collect::<String>();
        let read = |input: &str, flag| {
            let reader = Reader::new(input.as_bytes(), None, Instant::now()).with_times(flag);
            reader
                .map(|read| read.map(|_| ()))
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| error.to_string())
        };
        let began = 1_763_971_200;
        let times: Vec<u64> = (began..began + 20).collect();
        let newest_first: Vec<u64> = times.iter().rev().copied().collect();
        for flag in [None, Some("--warm-up")] {
            assert!(read(&log(&times), flag).is_ok());
            let told = "line 4: sent is 1763971216, and a line before it has 1763971219: the lines so far go back in time";
            assert!(read(&log(&newest_first), flag).is_err_and(|error| error.starts_with(told)));
        }
        let bytes: Vec<u64> = (0..20).map(|number| 5000 - number * 200).collect();
        assert!(read(&log(&bytes), None).is_ok(), "bytes, and not times");
    }

    #[test]
    fn an_outcome_of_a_record_tells_its_time_there() {
        let outcome =
            r#"{"release":"canary","failed":false,"canary_record":{"at":0.2,"sent":0.1,"number":0}}"#;
        let mut reader = Reader::new(outcome.as_bytes(), None, Instant::now()).with_times(Some("--warm-up"));
        assert!(matches!(reader.next(), Some(Ok(TimedEntry { entry: Entry::Outcome(_), .. }))));
    }

    #[test]
    fn a_number_that_occurs_twice_is_refused() {
        let line = r#"{"release":null,"failed":true,"canary_record":{"at":0.1,"sent":0.1,"number":1}}"#;
        assert!(lines(line).is_ok());
        assert!(lines(format!("{line}\n{line}")).is_err_and(|error| error.contains("occurs twice")));
    }

    const FAILED: &str = r#"{"release":"canary","failed":true}"#;

    #[test]
    fn an_outcome_has_release_failure_latency_and_pod() {
        let input = r#"
            {"release":"stable","failed":false,"ms":12.5,"pod":"one"}
            {"failed":true,"status":503,"path":["/"],"release":"canary","ms":3}
            {"release":null,"failed":true,"ms":null,"pod":null}
            {"release":"c\u0061nary","failed":false,"pod":"t\u0077o","nested":{"release":1}}
        "#;
        let (stable, canary) = (Some(Release::Stable), Some(Release::Canary));
        assert_eq!(
            lines(input).map(outcomes),
            Ok(vec![
                (0, stable, Outcome::Success, Some(12), Some("one".to_owned())),
                (1, canary, Outcome::Failure, Some(3), None),
                (2, None, Outcome::Failure, None, None),
                (3, canary, Outcome::Success, None, Some("two".to_owned())),
            ])
        );
    }

    #[test]
    fn an_answer_slower_than_the_limit_is_slow_unless_it_has_failed() {
        let input = r#"
            {"release":"canary","failed":false,"ms":300}
            {"release":"canary","failed":false,"ms":300.001}
            {"release":"canary","failed":true,"ms":301}
            {"release":"canary","failed":false}
        "#;
        let ended = |max_latency| -> Vec<_> {
            let lines = lines_with(input, max_latency).expect("good lines");
            outcomes(lines).into_iter().map(|(_, _, outcome, ..)| outcome).collect()
        };
        let (good, bad) = (Outcome::Success, Outcome::Failure);
        assert_eq!(ended(Some(Duration::from_millis(300))), [good, Outcome::Slow, bad, good]);
        assert_eq!(ended(None), [good, good, bad, good]);
    }

    #[test]
    fn the_counters_of_an_interval_are_a_batch_and_missing_ones_are_0() {
        let counts = |failures, requests| Counts { requests, failures, slow: 0 };
        let batch =
            |stable, canary, unattributed| Entry::Interval(None, Batch { stable, canary, unattributed });
        let input = r#"
            {"stable":{"requests":30,"failed":1},"canary":{"requests":10,"failed":0},"unattributed":{"failed":2}}
            {"canary":{"failed":0,"requests":1e3,"rate":0.5},"time":1763971200}
            {"stable":{"requests":4.0,"failed":4},"canary":null}
            {"unattributed":{"failed":1000000000000}}
        "#;
        assert_eq!(
            lines(input),
            Ok(vec![
                batch(counts(1, 30), counts(0, 10), 2),
                batch(counts(0, 0), counts(0, 1000), 0),
                batch(counts(4, 4), counts(0, 0), 0),
                batch(counts(0, 0), counts(0, 0), MAX_REQUESTS),
            ])
        );
    }

    #[test]
    fn blank_lines_carriage_returns_a_byte_order_mark_and_a_missing_last_line_end_are_accepted() {
        let plain = lines(format!("{FAILED}\n{FAILED}\n")).map(outcomes);
        assert_eq!(plain.as_ref().map(Vec::len), Ok(2));
        for input in [
            format!("{FAILED}\r\n{FAILED}\r\n"),
            format!("\u{feff}{FAILED}\n{FAILED}"),
            format!("\u{feff}\n \t\r\n\n  {FAILED}  \n\n{FAILED}\n\n"),
        ] {
            assert_eq!(lines(&input).map(outcomes), plain, "{input:?}");
        }
        for input in ["", "\n", "\u{feff}", " \r\n\n"] {
            assert_eq!(lines(input), Ok(vec![]), "{input:?}");
        }
    }

    #[test]
    fn a_bad_line_is_refused_with_its_number_the_key_and_the_cause() {
        for (line, cause) in [
            ("canary failed", "expected value at byte 1"),
            (r#"{"release":"canary","failed":fa"#, "its JSON is not complete: the line ends at byte 31"),
            (r#"{"release":"canary","failed":true"#, "its JSON is not complete: the line ends at byte 33"),
            (r#"{"stable":{"requests":1,"#, "line 3: its JSON is not complete: the line ends at byte 24"),
            (r#"["canary",true,null,null,null,null,null]"#, "sequence, expected an object such as"),
            ("[]", "sequence, expected an object such as"),
            ("17", "integer `17`, expected an object such as"),
            (r#"{"release":"canary","failed":1}"#, "failed: invalid type: integer `1`, expected a boolean"),
            (
                r#"{"release":"canary","failed":"no"}"#,
                "failed: invalid type: string \"no\", expected a boolean",
            ),
            (r#"{"release":["canary"],"failed":true}"#, "release: invalid type: sequence, expected a string"),
            (
                r#"{"release":"canary","failed":true,"ms":"3"}"#,
                "ms: invalid type: string \"3\", expected a number",
            ),
            (r#"{"release":"canary","failed":true,"ms":NaN}"#, "ms: expected value at byte 40"),
            (r#"{"release":"canary","failed":true,"ms":-1}"#, "ms is -1: want a time in milliseconds"),
            (r#"{"release":"canary","failed":true,"ms":1e999}"#, "ms: number out of range"),
            (r#"{"release":"canary","failed":true,"ms":1e300}"#, "ms is 1000000000"),
            (
                r#"{"release":"canary","failed":true,"pod":7}"#,
                "pod: invalid type: integer `7`, expected a string",
            ),
            (
                r#"{"release":"blue","failed":true}"#,
                "release is \"blue\": want \"stable\", \"canary\" or null",
            ),
            (r#"{"release":"Canary","failed":true}"#, "release is \"Canary\""),
            (r#"{"release":"canary"}"#, "has no key failed: want true or false"),
            (r#"{"release":"canary","failed":null}"#, "has no key failed"),
            (r#"{"failed":true}"#, "has no key release"),
            ("{}", "has no key release"),
            (r#"{"release":"canary","release":"stable","failed":true}"#, "duplicate field `release`"),
            (r#"{"stable":{"requests":1,"requests":2,"failed":0}}"#, "stable: duplicate field `requests`"),
            (
                r#"{"release":null,"failed":true,"canary":{"requests":1,"failed":0}}"#,
                "both an outcome and counters",
            ),
            (r#"{"failed":true,"unattributed":{"failed":0}}"#, "both an outcome and counters"),
            (r#"{"canary":{"requests":1,"failed":2}}"#, "canary has failed 2 of 1 requests"),
            (r#"{"canary":{"requests":-1,"failed":0}}"#, "canary.requests is -1: want a whole number from 0"),
            (r#"{"stable":{"requests":1,"failed":0.5}}"#, "stable.failed is 0.5: want a whole number from 0"),
            (r#"{"stable":{"requests":1000000000001,"failed":0}}"#, "to 1000000000000"),
            (r#"{"unattributed":{"failed":-3}}"#, "unattributed.failed is -3"),
            (r#"{"unattributed":{"failed":1e18}}"#, "unattributed.failed is 1000000000000000000"),
            (r#"{"stable":[30,1]}"#, "stable: invalid type: sequence, expected an object such as"),
            (r#"{"stable":{"requests":30}}"#, "stable: missing field `failed`"),
            (r#"{"stable":{"failed":1}}"#, "stable: missing field `requests`"),
            (
                r#"{"stable":30,"canary":10}"#,
                "stable: invalid type: integer `30`, expected an object such as",
            ),
            (r#"{"release":"canary","failed":true} {}"#, "trailing characters at byte 36"),
        ] {
            let error = lines(format!("{FAILED}\n\n{line}\n{FAILED}\n")).expect_err(line);
            assert!(error.starts_with("line 3: ") && error.contains(cause), "{line}: {error}");
            assert!(!error.contains(" at line "), "{line}: {error}");
        }
        let error =
            lines(b"{\"release\":\"canary\",\"failed\":true,\"agent\":\"\xe9\"}").expect_err("Latin-1");
        assert_eq!(error, "line 1: not UTF-8 at byte 44");
    }

    #[test]
    fn the_maximum_length_of_a_line_is_1_mib() {
        let line = |length: usize| format!("{FAILED}{}", " ".repeat(length - FAILED.len()));
        for end in ["", "\n"] {
            assert_eq!(lines(line(MAX_LINE) + end).map(|lines| lines.len()), Ok(1));
        }
        for end in ["", "\n"] {
            let error = lines(line(MAX_LINE + 1) + end).expect_err("too long");
            assert_eq!(error, "line 1: longer than 1048576 bytes");
        }
    }

    #[test]
    fn sums_that_would_not_be_exact_are_refused() {
        let line = format!("{{\"stable\":{{\"requests\":{MAX_REQUESTS},\"failed\":0}}}}\n");
        let most = usize::try_from(MAX_TOTAL / MAX_REQUESTS).expect("9007");
        assert_eq!(lines(line.repeat(most)).map(|lines| lines.len()), Ok(most));
        let error = lines(line.repeat(most + 1)).expect_err("too much");
        assert_eq!(error, "line 9008: the requests so far are more than 9007199254740992");
    }
}
