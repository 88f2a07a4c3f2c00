//! The output for scripts: a line of JSON each second, and a summary line at the end.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    time::{Duration, Instant},
};

use serde::{Serialize, Serializer, ser::SerializeStruct};
use tokio::time::{Interval, MissedTickBehavior, interval_at};

use crate::{
    source::{Asked, Attribution, Cause, Seen},
    trial::{
        Trial,
        tally::{Statuses, Tally, share},
    },
};
use canary_judge::{Counts, Price, Verdict};

/// Ticks each second, for the first time after one second. If the process was stopped, there is one tick for
/// the whole stop.
pub fn every_second() -> Interval {
    let second = Duration::from_secs(1);
    let mut seconds = interval_at(tokio::time::Instant::now() + second, second);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
    seconds
}

/// Writes the lines.
#[derive(Debug)]
pub struct Report<W> {
    output: W,
    began: Instant,
    /// The requests of the current second.
    second: Tally,
}

impl<W: Write> Report<W> {
    /// A report whose time starts `now`.
    pub fn new(output: W, now: Instant) -> Self {
        Self { output, began: now, second: Tally::new(now) }
    }

    /// Counts what a source yields.
    pub fn observe(&mut self, seen: &Seen) {
        match seen {
            Seen::Request(observation) => self.second.observe(observation),
            Seen::Interval(interval) => self.second.observe_batch(&interval.batch()),
            Seen::Health(_) => {}
            Seen::Trouble(why) => self.second.observe_trouble(why),
        }
    }

    /// Writes the line of the second that ends `now`.
    ///
    /// # Errors
    /// If the output cannot be written.
    pub fn end_second(&mut self, trial: &Trial, now: Instant) -> io::Result<()> {
        let second = std::mem::replace(&mut self.second, Tally::new(now));
        self.write(&ReportLine::new("second", now - self.began, &second, trial, now))
    }

    /// Writes the summary line of the whole trial. `asked` is what the source says about that.
    ///
    /// # Errors
    /// If the output cannot be written.
    pub fn end(&mut self, trial: &Trial, asked: Option<Asked>, now: Instant) -> io::Result<()> {
        let line = ReportLine::new("summary", now - self.began, trial.tally(), trial, now);
        self.write(&ReportLine { asked, ..line })
    }

    fn write(&mut self, line: &ReportLine<'_>) -> io::Result<()> {
        serde_json::to_writer(&mut self.output, line)?;
        writeln!(self.output)?;
        self.output.flush()
    }
}

#[derive(Serialize)]
struct ReportLine<'a> {
    /// `second` or `summary`.
    #[serde(rename = "type")]
    kind: &'a str,
    /// The time since the program started.
    seconds: f64,
    requests: u64,
    #[serde(flatten, serialize_with = "by_outcome")]
    total: Counts,
    releases: BTreeMap<String, ReleaseEntry>,
    /// Answers that name no release.
    #[serde(serialize_with = "by_outcome")]
    unnamed: Counts,
    no_answer: NoAnswerEntry<'a>,
    /// The number of answers by status code, where it is known.
    statuses: &'a Statuses,
    /// Requests that this machine could not send. No other number includes them.
    unsent: u64,
    /// The reason of the last request that was not answered or not sent.
    trouble: Option<&'a str>,
    latency_ms: LatencyEntry,
    pods: BTreeMap<&'a str, PodEntry<'a>>,
    /// The verdict on all requests since the program started, or since the trial was reset.
    verdict: Verdict,
    /// The verdict in sentences.
    verdict_text: String,
    /// The cost of the canary in the same time; `None` before stable has answered.
    price: Option<Price>,
    /// What was asked; only in the summary, and only if the source tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    asked: Option<Asked>,
}

#[derive(Serialize)]
struct ReleaseEntry {
    #[serde(flatten, serialize_with = "by_outcome")]
    counts: Counts,
    /// Its share of all requests, from 0 to 1.
    share: Option<f64>,
    /// Its expected share: the one given by `--share`, or its share if all pods got the same traffic.
    expected_share: Option<f64>,
}

/// All requests without an answer. If a request is attributed to a release by its address, it also counts for
/// that release.
#[derive(Serialize)]
struct NoAnswerEntry<'a> {
    count: u64,
    causes: &'a BTreeMap<Cause, u64>,
}

#[derive(Serialize)]
struct LatencyEntry {
    p50: Option<f64>,
    p99: Option<f64>,
}

#[derive(Serialize)]
struct PodEntry<'a> {
    release: String,
    namespace: &'a str,
    labels: &'a BTreeMap<String, String>,
    #[serde(flatten, serialize_with = "by_outcome")]
    counts: Counts,
}

impl<'a> ReportLine<'a> {
    fn new(kind: &'a str, time: Duration, tally: &'a Tally, trial: &Trial, now: Instant) -> Self {
        let verdict = trial.verdict(now);
        let total = tally.total();
        let named = tally
            .counts()
            .iter()
            .filter(|(attribution, _)| !matches!(attribution, Attribution::Unnamed | Attribution::NoAnswer));
        let releases = named.map(|(release, counts)| {
            let entry = ReleaseEntry {
                counts: *counts,
                share: share(counts.requests, total.requests),
                expected_share: trial.expected_share(release, tally.pods()),
            };
            (release.to_string(), entry)
        });
        let percentile = |percent| tally.latencies().percentile(percent).map(milliseconds);
        Self {
            kind,
            seconds: (time.as_secs_f64() * 1e3).round() / 1e3,
            requests: total.requests,
            total,
            releases: releases.collect(),
            unnamed: tally.of(&Attribution::Unnamed),
            no_answer: NoAnswerEntry { count: tally.unanswered(), causes: tally.causes() },
            statuses: tally.statuses(),
            unsent: tally.unsent(),
            trouble: tally.last_trouble(),
            latency_ms: LatencyEntry { p50: percentile(50), p99: percentile(99) },
            pods: tally
                .pods()
                .iter()
                .map(|(name, pod)| {
                    let (namespace, labels, counts) = (pod.namespace.as_str(), &pod.labels, pod.counts);
                    (name, PodEntry { release: pod.release.to_string(), namespace, labels, counts })
                })
                .collect(),
            verdict_text: verdict.to_string(),
            verdict,
            price: trial.price(now),
            asked: None,
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e3
}

/// Writes counts by outcome. `failure` includes `slow`.
fn by_outcome<S: Serializer>(counts: &Counts, serializer: S) -> Result<S::Ok, S::Error> {
    let mut fields = serializer.serialize_struct("Counts", 3)?;
    fields.serialize_field("success", &counts.successes())?;
    fields.serialize_field("failure", &counts.failures)?;
    fields.serialize_field("slow", &counts.slow)?;
    fields.end()
}
