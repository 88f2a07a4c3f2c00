//! A record of a trial, in the form of the lines: what was counted, when, and with which settings. From it, the judge
//! says the same again.
//!
//! Each line has the key `canary_record`. The first line has the settings, and the last one how the trial ended:
//!
//! ```text
//! {"canary_record":{"version":1,"settings":{"alpha":0.05,…},"price":{"coverage":"sample","traffic":10.0,"slo":0.999}}}
//! {"release":"canary","failed":false,"ms":1.25,"pod":"a","canary_record":{"at":0.1037,"sent":0.1024,"number":0}}
//! {"canary_record":{"at":9.2,"clock":1763971200.1,"began":1763971190.0,"windows":[{"release":"stable",…}]}}
//! {"canary_record":{"at":9.8,"health":{"restarts":1,"unready_for":0.4}}}
//! {"canary_record":{"at":12.5,"end":"decided"}}
//! ```
//!
//! `at` is when canary counted it and `sent` when the request was sent, both in seconds since the trial began. `number`
//! is its place in the order of sending. If requests are divided, `stratum` is the kind of the request.

use std::{
    io::{self, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use canary_judge::{
    Budget, Burn, Counts, Fraction, Histogram, Outcome, Ratio, Release, Settings, Tolerance, Traffic, Window,
};
use serde::{Deserialize, Serialize};

use crate::source::{Cause, CountedWindow, Coverage, Health, Interval, Observation, Response, Seen, strata};

/// The version of the form that is written and read.
const VERSION: u32 = 1;
/// Each record begins with this.
pub const BEGINNING: &str = "{\"canary_record\":";
/// The maximum number of bounds of a histogram.
const MOST_BOUNDS: usize = 1000;

/// The part of a line that a record adds. Which keys are there depends on the line.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Recorded {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<RecordedSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    price: Option<RecordedPrice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sent: Option<f64>,
    /// When the request's pod had started, before the beginning if it is negative.
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<u64>,
    /// The kind of the request, if requests are divided.
    #[serde(skip_serializing_if = "Option::is_none")]
    stratum: Option<String>,
    /// The status code of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// Why there was no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<Cause>,
    /// The request was not sent.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unsent: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    began: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    windows: Option<Vec<RecordedWindow>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<RecordedHealth>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<End>,
}

/// What Kubernetes told about the canary's pods.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct RecordedHealth {
    restarts: u64,
    /// For how many seconds a pod was not ready.
    unready_for: Option<f64>,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct RecordedSettings {
    alpha: f64,
    max_failure_rate: f64,
    max_ratio: f64,
    #[serde(default)]
    min_answers: u64,
    max_latency_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    slower_by: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    warm_up_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    episodes_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    slo: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_burn: Option<f64>,
}

/// What the price is computed from.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct RecordedPrice {
    coverage: RecordedCoverage,
    traffic: Option<f64>,
    slo: Option<f64>,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum RecordedCoverage {
    Sample,
    All,
    Counted,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct RecordedWindow {
    release: Release,
    pod: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    version: String,
    since: f64,
    until: f64,
    requests: u64,
    failed: u64,
    #[serde(default)]
    slow: u64,
    #[serde(default)]
    restarted: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    started: Option<f64>,
    /// The parts of the strata, if requests are divided.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    strata: Vec<RecordedPart>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    latencies: Vec<RecordedHistogram>,
}

/// The part of a stratum.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct RecordedPart {
    name: String,
    requests: u64,
    failed: u64,
    #[serde(default)]
    slow: u64,
}

/// A histogram of the latencies of a stratum: all answers, and for each bound in seconds, how many took longer.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct RecordedHistogram {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    stratum: String,
    answers: u64,
    slower: Vec<(f64, u64)>,
}

/// How a trial ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// There was a decision.
    Decided,
    /// No more outcomes came.
    Over,
    /// A signal, or no answer at all, ended it.
    Stopped,
}

/// The outcome of a request, in the form of a line.
#[derive(Serialize)]
struct OutcomeLine<'a> {
    release: Option<Release>,
    failed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<&'a str>,
    canary_record: Recorded,
}

#[derive(Serialize)]
struct RecordLine {
    canary_record: Recorded,
}

/// Writes a record.
#[derive(Debug)]
pub struct Recorder<W: Write> {
    output: W,
    began: Instant,
}

impl<W: Write> Recorder<W> {
    /// Begins a record of a trial that began at this time, with its settings.
    ///
    /// # Errors
    /// If the output cannot be written.
    pub fn new(output: W, began: Instant, header: Header) -> io::Result<Self> {
        let mut recorder = Self { output, began };
        let Settings {
            alpha,
            max_failure_rate,
            max_ratio,
            min_answers,
            max_latency,
            slower_by,
            warm_up,
            episodes,
            ..
        } = header.settings;
        let budget = header.budget;
        let (coverage, counted_slo) = match header.coverage {
            Coverage::Sample => (RecordedCoverage::Sample, None),
            Coverage::All => (RecordedCoverage::All, None),
            Coverage::Counted(slo) => (RecordedCoverage::Counted, Some(slo)),
        };
        let slo = budget.map(|budget| budget.slo).or(counted_slo).map(Fraction::get);
        let settings = RecordedSettings {
            alpha: alpha.get(),
            max_failure_rate: max_failure_rate.get(),
            max_ratio: max_ratio.get(),
            min_answers,
            max_latency_ms: max_latency.map(milliseconds),
            slower_by: slower_by.map(Tolerance::get),
            warm_up_ms: warm_up.map(milliseconds),
            episodes_ms: episodes.map(milliseconds),
            slo: Some(header.settings.slo.get()),
            max_burn: header.settings.max_burn.map(Burn::get),
        };
        let price = RecordedPrice { coverage, traffic: budget.map(|budget| budget.traffic.get()), slo };
        recorder.write(&RecordLine {
            canary_record: Recorded {
                version: Some(VERSION),
                settings: Some(settings),
                price: Some(price),
                ..Recorded::default()
            },
        })?;
        Ok(recorder)
    }

    /// Writes what a source has yielded, and the trial counts `now`.
    ///
    /// # Errors
    /// If the output cannot be written.
    pub fn observe(&mut self, seen: &Seen, now: Instant) -> io::Result<()> {
        match seen {
            Seen::Request(observation) => self.observe_request(observation, now),
            Seen::Interval(interval) => self.observe_interval(interval, now),
            Seen::Health(health) => {
                let unready = health.unready.map(|since| health.at.saturating_duration_since(since));
                let unready_for = unready.map(|time| time.as_secs_f64());
                let health = Some(RecordedHealth { restarts: health.restarts, unready_for });
                let at = Some(self.seconds(now));
                self.write(&RecordLine { canary_record: Recorded { at, health, ..Recorded::default() } })
            }
            Seen::Trouble(_) => Ok(()),
        }
    }

    fn observe_request(&mut self, observation: &Observation, now: Instant) -> io::Result<()> {
        let recorded = Recorded {
            at: Some(self.seconds(now)),
            sent: Some(self.seconds(observation.sent)),
            started: observation.started.map(|started| self.signed_seconds(started)),
            number: Some(observation.number),
            ..Recorded::default()
        };
        let Some((attribution, outcome)) = observation.attributed() else {
            return self.write(&RecordLine { canary_record: Recorded { unsent: true, ..recorded } });
        };
        let (ms, status, cause) = match &observation.response {
            Response::Answer(answer) => (answer.latency.map(milliseconds), answer.status, None),
            Response::NoAnswer(no_answer) => (None, None, Some(no_answer.cause)),
            Response::Unsent(_) => (None, None, None),
        };
        self.write(&OutcomeLine {
            release: attribution.release(),
            failed: outcome == Outcome::Failure,
            ms,
            pod: observation.pod(),
            canary_record: Recorded {
                status,
                cause,
                stratum: observation.stratum.as_deref().map(str::to_owned),
                ..recorded
            },
        })
    }

    fn observe_interval(&mut self, interval: &Interval, now: Instant) -> io::Result<()> {
        let windows =
            interval.windows.iter().map(|CountedWindow { version, window, started }| RecordedWindow {
                release: window.release,
                pod: window.pod.to_string(),
                version: version.clone(),
                since: window.since,
                until: window.until,
                requests: window.counts.requests,
                failed: window.counts.failures,
                slow: window.counts.slow,
                restarted: window.restarted,
                started: *started,
                strata: window.strata.iter().map(RecordedPart::of).collect(),
                latencies: window.latencies.iter().map(RecordedHistogram::of).collect(),
            });
        let canary_record = Recorded {
            at: Some(self.seconds(now)),
            sent: Some(self.seconds(interval.at)),
            clock: Some(interval.clock),
            began: Some(interval.began),
            windows: Some(windows.collect()),
            ..Recorded::default()
        };
        self.write(&RecordLine { canary_record })
    }

    /// Writes how the trial has ended, and writes out everything.
    ///
    /// # Errors
    /// If the output cannot be written.
    pub fn end(&mut self, end: End, now: Instant) -> io::Result<()> {
        let canary_record = Recorded { at: Some(self.seconds(now)), end: Some(end), ..Recorded::default() };
        self.write(&RecordLine { canary_record })?;
        self.flush()
    }

    /// Writes out what is in the buffer.
    ///
    /// # Errors
    /// If the output cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }

    /// The output, with all that was written.
    pub fn into_inner(self) -> W {
        self.output
    }

    fn seconds(&self, at: Instant) -> f64 {
        at.saturating_duration_since(self.began).as_secs_f64()
    }

    fn signed_seconds(&self, at: Instant) -> f64 {
        match at.checked_duration_since(self.began) {
            Some(after) => after.as_secs_f64(),
            None => -(self.began.saturating_duration_since(at).as_secs_f64()),
        }
    }

    fn write(&mut self, line: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.output, line)?;
        self.output.write_all(b"\n")
    }
}

/// The settings in the first line of a record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Header {
    /// The judge's settings.
    pub settings: Settings,
    /// The basis of the price.
    pub coverage: Coverage,
    /// The same.
    pub budget: Option<Budget>,
}

/// What a record's line says.
pub(super) enum Part {
    Header(Header),
    Interval(Interval),
    Health(Health),
    /// A request that was not sent: its number.
    Unsent(u64),
    End(End),
    /// It belongs to an outcome.
    Outcome,
}

impl Recorded {
    /// What the line says. Times of the record are relative to `began`.
    pub(super) fn part(&self, began: Instant) -> Result<Part, String> {
        if let Some(settings) = &self.settings {
            return self.header(settings).map(Part::Header);
        }
        if let Some(windows) = &self.windows {
            let missing = || "canary_record has windows without clock, began or sent".to_owned();
            let (Some(clock), Some(start), Some(sent)) = (self.clock, self.began, self.sent) else {
                return Err(missing());
            };
            let windows = windows.iter().map(RecordedWindow::counted).collect::<Result<_, _>>()?;
            let at = began + seconds(sent, "sent")?;
            return Ok(Part::Interval(Interval { at, clock, began: start, windows }));
        }
        if let Some(RecordedHealth { restarts, unready_for }) = self.health {
            let at = began + self.at()?.unwrap_or_default();
            let unready_for = unready_for.map(|time| seconds(time, "health.unready_for")).transpose()?;
            let unready = unready_for.map(|time| at.checked_sub(time).unwrap_or(at));
            return Ok(Part::Health(Health { at, restarts, unready, pod: None }));
        }
        match (self.end, self.unsent, self.number) {
            (Some(end), ..) => Ok(Part::End(end)),
            (None, true, Some(number)) => Ok(Part::Unsent(number)),
            _ => Ok(Part::Outcome),
        }
    }

    /// When it was counted, after the beginning.
    pub(super) fn at(&self) -> Result<Option<Duration>, String> {
        self.at.map(|at| seconds(at, "at")).transpose()
    }

    /// When the request was sent, after the beginning.
    pub(super) fn sent(&self) -> Result<Option<Duration>, String> {
        self.sent.map(|sent| seconds(sent, "sent")).transpose()
    }

    /// When the request's pod had started.
    pub(super) fn started(&self, began: Instant) -> Result<Option<Instant>, String> {
        let Some(started) = self.started else { return Ok(None) };
        let length = seconds(started.abs(), "started")?;
        // a pod that is older than this machine's clock is old
        Ok(if started < 0.0 { began.checked_sub(length) } else { Some(began + length) })
    }

    /// Its place in the order of sending.
    pub(super) fn number(&self) -> Option<u64> {
        self.number
    }

    /// The kind of the request, if requests are divided.
    pub(super) fn stratum(&self) -> Option<Arc<str>> {
        self.stratum.as_deref().map(|name| strata::name([Some(name)]))
    }

    /// The status code of the answer.
    pub(super) fn status(&self) -> Option<u16> {
        self.status
    }

    /// Why there was no answer.
    pub(super) fn cause(&self) -> Option<Cause> {
        self.cause
    }

    fn header(&self, settings: &RecordedSettings) -> Result<Header, String> {
        if self.version != Some(VERSION) {
            let version = self.version.map_or_else(|| "none".to_owned(), |version| version.to_string());
            return Err(format!(
                "canary_record has the version {version}; this canary reads version {VERSION}"
            ));
        }
        let bad = |key: &'static str| move |error| format!("canary_record.{key}: {error}");
        let fraction = |key, value| Fraction::new(value).map_err(bad(key));
        let settings = Settings {
            alpha: fraction("settings.alpha", settings.alpha)?,
            max_failure_rate: fraction("settings.max_failure_rate", settings.max_failure_rate)?,
            max_ratio: Ratio::new(settings.max_ratio).map_err(bad("settings.max_ratio"))?,
            min_answers: settings.min_answers,
            max_latency: settings
                .max_latency_ms
                .map(|ms| seconds(ms / 1e3, "settings.max_latency_ms"))
                .transpose()?,
            slower_by: settings
                .slower_by
                .map(|value| Tolerance::new(value).map_err(bad("settings.slower_by")))
                .transpose()?,
            warm_up: settings.warm_up_ms.map(|ms| seconds(ms / 1e3, "settings.warm_up_ms")).transpose()?,
            episodes: settings.episodes_ms.map(|ms| seconds(ms / 1e3, "settings.episodes_ms")).transpose()?,
            slo: match settings.slo {
                Some(slo) => fraction("settings.slo", slo)?,
                None => Settings::default().slo, // records of before have none
            },
            max_burn: settings
                .max_burn
                .map(|burn| Burn::new(burn).map_err(bad("settings.max_burn")))
                .transpose()?,
        };
        let Some(RecordedPrice { coverage, traffic, slo }) = self.price else {
            return Err("canary_record has settings without price".to_owned());
        };
        let slo = slo.map(|slo| fraction("price.slo", slo)).transpose()?;
        let traffic =
            traffic.map(|traffic| Traffic::new(traffic).map_err(bad("price.traffic"))).transpose()?;
        let budget = traffic.zip(slo).map(|(traffic, slo)| Budget { traffic, slo });
        let coverage = match (coverage, slo) {
            (RecordedCoverage::Sample, _) => Coverage::Sample,
            (RecordedCoverage::Counted, Some(slo)) => Coverage::Counted(slo),
            (RecordedCoverage::All | RecordedCoverage::Counted, _) => Coverage::All,
        };
        Ok(Header { settings, coverage, budget })
    }
}

impl RecordedWindow {
    fn counted(&self) -> Result<CountedWindow, String> {
        let Self { release, requests, failed, slow, since, until, restarted, started, .. } = *self;
        let is_valid = started.is_none_or(f64::is_finite)
            && slow <= failed
            && failed <= requests
            && since.is_finite()
            && until.is_finite();
        if !is_valid || since > until || requests > super::MAX_REQUESTS {
            return Err(format!("canary_record.windows has an impossible window of {:?}", self.pod));
        }
        let counts = Counts { requests, failures: failed, slow };
        let strata = self.strata.iter().map(RecordedPart::counted).collect();
        let latencies = self.latencies.iter().map(RecordedHistogram::counted).collect::<Result<_, _>>()?;
        let (pod, is_warm_up) = (self.pod.as_str().into(), false);
        let window = Window { release, pod, since, until, counts, restarted, is_warm_up, strata, latencies };
        Ok(CountedWindow { version: self.version.clone(), window, started })
    }
}

impl RecordedHistogram {
    fn of((stratum, Histogram { answers, slower }): &(Arc<str>, Histogram)) -> Self {
        Self { stratum: stratum.to_string(), answers: *answers, slower: slower.clone() }
    }

    fn counted(&self) -> Result<(Arc<str>, Histogram), String> {
        let Self { stratum, answers, slower } = self;
        let falls = slower.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 >= two[1].1);
        let is_valid = falls && slower.iter().all(|(bound, _)| *bound > 0.0 && bound.is_finite());
        let first = slower.first().map_or(0, |(_, slower)| *slower);
        if !is_valid || first > *answers || *answers > super::MAX_REQUESTS || slower.len() > MOST_BOUNDS {
            return Err("canary_record.windows has an impossible histogram".to_owned());
        }
        let stratum = if stratum.is_empty() { Arc::default() } else { strata::name([Some(&**stratum)]) };
        Ok((stratum, Histogram { answers: *answers, slower: slower.clone() }))
    }
}

impl RecordedPart {
    fn of((name, counts): &(Arc<str>, Counts)) -> Self {
        let Counts { requests, failures: failed, slow } = *counts;
        Self { name: name.to_string(), requests, failed, slow }
    }

    fn counted(&self) -> (Arc<str>, Counts) {
        let counts = Counts { requests: self.requests, failures: self.failed, slow: self.slow };
        (strata::name([Some(&*self.name)]), counts)
    }
}

fn seconds(value: f64, key: &str) -> Result<Duration, String> {
    let is_possible = |time: &Duration| *time < Duration::from_secs(100 * 365 * 24 * 3600);
    let time = Duration::try_from_secs_f64(value).ok().filter(is_possible);
    time.ok_or_else(|| format!("canary_record.{key} is {value}: want a time of at least 0"))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
