//! The service's own counters, as Prometheus has scraped them: the answers of both releases from one scrape to the
//! next.
//!
//! - `queries`: the selectors. `client`: the HTTP client. `round`: one round of queries, and the checks of its answers.
//! - `twice`, `gauge`: series that cannot be counted. `single`: those that are not of single pods.
//! - `counters`: increases of counters, by pod.
//! - `fuzzing`: rounds for the fuzz targets.

mod client;
mod counters;
mod flags;
#[doc(hidden)]
pub mod fuzzing;
mod gauge;
mod queries;
mod round;
mod samples;
mod single;
mod twice;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    select,
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval, sleep},
};

use self::round::{Rounds, Trouble};
pub use self::{
    client::{Address, Credentials},
    flags::PrometheusFlags,
    queries::{Bucket, Failures, Latencies, Matchers, Metric, Queries},
};
use super::{Interval, Seen, Source, probe::Trust};

/// The time between two messages about the same problem.
const TOLD_AGAIN: Duration = Duration::from_secs(60);

/// The Prometheus to query, and the queries.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it is.
    pub address: Address,
    /// More headers of each query, as `Name: value`.
    pub headers: Vec<String>,
    /// The credentials for it.
    pub credentials: Credentials,
    /// The certificates that are accepted.
    pub trust: Trust,
    /// The queries.
    pub queries: Queries,
    /// Whether the counters must be those of single pods.
    pub compares_pods: bool,
    /// The time between two rounds of queries.
    pub every: Duration,
}

/// A Prometheus that is queried regularly. Dropping it stops that.
#[derive(Debug)]
pub struct Prometheus {
    seen: mpsc::Receiver<Seen>,
    paused: watch::Sender<bool>,
    has_answered: Arc<AtomicBool>,
}

impl Prometheus {
    /// Starts to query, for this long. Call it within a tokio runtime.
    ///
    /// # Errors
    /// If an option cannot be used: the cause, in words.
    pub fn start(options: &Options, time: Option<Duration>) -> Result<Self, String> {
        let rounds = Rounds::new(options)?;
        let (sender, seen) = mpsc::channel(64);
        let paused = watch::Sender::new(false);
        let has_answered = Arc::new(AtomicBool::new(false));
        let task = Task { rounds, sender, trouble: None, has_answered: Arc::clone(&has_answered) };
        tokio::spawn(task.query_for(options.every, time, paused.subscribe()));
        Ok(Self { seen, paused, has_answered })
    }
}

impl Source for Prometheus {
    async fn next(&mut self) -> Option<Seen> {
        self.seen.recv().await
    }

    fn pause(&self, paused: bool) {
        self.paused.send_replace(paused);
    }

    /// Whether it has ever answered, even with an error.
    fn has_answered(&self) -> bool {
        self.has_answered.load(Ordering::Relaxed)
    }
}

struct Task {
    rounds: Rounds,
    sender: mpsc::Sender<Seen>,
    /// The last problem, and when it was reported.
    trouble: Option<(String, Instant)>,
    has_answered: Arc<AtomicBool>,
}

impl Task {
    /// Queries until the time is over or the receiver is gone. It then cancels open queries.
    async fn query_for(mut self, every: Duration, time: Option<Duration>, paused: watch::Receiver<bool>) {
        let sender = self.sender.clone();
        let querying = self.query_every(every, paused);
        select! {
            () = querying => {}
            () = sleep(time.unwrap_or(Duration::MAX)) => {}
            () = sender.closed() => {}
        }
    }

    async fn query_every(&mut self, every: Duration, mut paused: watch::Receiver<bool>) {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if *paused.borrow_and_update() {
                // counts during a pause do not matter
                self.rounds.begin_anew();
                if paused.wait_for(|paused| !paused).await.is_err() {
                    return;
                }
            }
            let found = self.rounds.query().await;
            if self.tell(found).await.is_err() {
                return;
            }
        }
    }

    async fn tell(
        &mut self,
        found: Result<Option<Interval>, Trouble>,
    ) -> Result<(), mpsc::error::SendError<Seen>> {
        let is_answer = found.as_ref().map_or_else(|trouble| trouble.is_answer, |_| true);
        self.has_answered.fetch_or(is_answer, Ordering::Relaxed);
        let trouble = match found {
            Ok(found) => {
                if let Some(interval) = found {
                    self.sender.send(Seen::Interval(interval)).await?;
                }
                self.rounds.unseen()
            }
            Err(trouble) => Some(trouble.text),
        };
        let Some(text) = trouble else {
            self.trouble = None;
            return Ok(());
        };
        let is_told = |(told, at): &(String, Instant)| *told == text && at.elapsed() < TOLD_AGAIN;
        if !self.trouble.as_ref().is_some_and(is_told) {
            self.trouble = Some((text.clone(), Instant::now()));
            self.sender.send(Seen::Trouble(text)).await?;
        }
        Ok(())
    }
}
