//! The commands of docs/workers.md, taken from the page, on workers that take jobs from one queue and count them as the
//! libraries do that the page names:
//!
//! - yabeda-sidekiq: `lib/yabeda/sidekiq/server_middleware.rb` of yabeda-rb/yabeda-sidekiq
//! - celery-exporter: `src/exporter.py` of danihodovic/celery-exporter
//!
//! Only the URL and the pace differ from the page, and `--alpha 0.1%`, so that chance hardly ever decides.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::json;
use tempfile::TempDir;
use testkit::{eventually, prometheus::Prometheus};

use crate::{
    common::pages::{commands, start_line},
    ended,
};

const DOCUMENT: &str = include_str!("../../../docs/workers.md");
/// Scrapes every second. The exporter's labels stay as they are.
const CONFIG: &str = "{global: {scrape_interval: 1s, scrape_timeout: 1s}, scrape_configs: [\
    {job_name: workers, file_sd_configs: [{files: [workers.json]}]}, \
    {job_name: celery, honor_labels: true, file_sd_configs: [{files: [celery.json]}]}]}";
/// A job that fails is tried again, so often.
const RETRIES: u32 = 2;

/// A job, with its number and how often it was tried before.
#[derive(Clone, Copy)]
struct Job {
    number: u64,
    tried: u32,
}

/// A queue that always has a job.
#[derive(Default)]
struct Queue {
    again: VecDeque<Job>,
    last: u64,
}

impl Queue {
    fn take(&mut self) -> Job {
        self.again.pop_front().unwrap_or_else(|| {
            self.last += 1;
            Job { number: self.last, tried: 0 }
        })
    }
}

/// What a worker has counted.
#[derive(Default)]
struct Counted {
    succeeded: AtomicU64,
    /// Attempts that failed, and were the job's last or not.
    failed: AtomicU64,
    retried: AtomicU64,
}

struct Worker {
    release: &'static str,
    pod: String,
    counted: Arc<Counted>,
}

impl Worker {
    /// Takes jobs until the end. A thousandth of the jobs fail when they are tried first, wherever that is. They do not fail
    /// in a row: one worker could take them all. `failing` of ten attempts fail, too.
    fn work(&self, queue: &Arc<Mutex<Queue>>, failing: u64, goes_on: &Arc<AtomicBool>) {
        let (queue, counted, goes_on) = (Arc::clone(queue), Arc::clone(&self.counted), Arc::clone(goes_on));
        thread::spawn(move || {
            let mut own = 0_u64;
            while goes_on.load(Ordering::Relaxed) {
                let job = queue.lock().expect("no panic").take();
                own += 1;
                let is_bad = job.tried == 0 && job.number % 1000 == 0;
                if own % 10 >= failing && !is_bad {
                    thread::sleep(Duration::from_millis(20));
                    counted.succeeded.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                // it fails fast
                thread::sleep(Duration::from_millis(1));
                if job.tried < RETRIES {
                    counted.retried.fetch_add(1, Ordering::Relaxed);
                    queue.lock().expect("no panic").again.push_back(Job { tried: job.tried + 1, ..job });
                } else {
                    counted.failed.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }

    fn counts(&self) -> [u64; 3] {
        let Counted { succeeded, failed, retried } = &*self.counted;
        [succeeded, failed, retried].map(|count| count.load(Ordering::Relaxed))
    }

    /// Its own counter, and those of yabeda-sidekiq, which count attempts.
    fn metrics(&self) -> String {
        let [succeeded, failed, retried] = self.counts();
        let mut text = "# TYPE jobs_processed_total counter\n".to_owned();
        for (status, count) in [("ok", succeeded), ("failed", failed + retried)] {
            let _ = writeln!(text, "jobs_processed_total{{queue=\"mail\",status=\"{status}\"}} {count}");
        }
        for (name, count) in [("failed", failed + retried), ("executed", succeeded + failed + retried)] {
            let _ = writeln!(text, "# TYPE sidekiq_jobs_{name}_total counter");
            // a series appears with the first job
            if count > 0 {
                let _ = writeln!(text, "sidekiq_jobs_{name}_total{{queue=\"mail\",worker=\"Mail\"}} {count}");
            }
        }
        text
    }
}

/// The metrics of celery-exporter, which counts the events of all workers.
fn exported(workers: &[Worker]) -> String {
    let mut text = String::new();
    for (at, name) in ["succeeded", "failed", "retried"].into_iter().enumerate() {
        let _ = writeln!(text, "# TYPE celery_task_{name}_total counter");
        for worker in workers {
            let (pod, count) = (&worker.pod, worker.counts()[at]);
            let exception = if name == "failed" { ",exception=\"\"" } else { "" };
            let labels = format!("name=\"mail\",hostname=\"{pod}\",queue_name=\"mail\"");
            let _ = match (name, count) {
                // a label that appears with the first failure
                ("failed", 1..) => writeln!(
                    text,
                    "celery_task_failed_total{{{labels},exception=\"\"}} 0\n\
                     celery_task_failed_total{{{labels},exception=\"Refused\"}} {count}"
                ),
                _ => writeln!(text, "celery_task_{name}_total{{{labels}{exception}}} {count}"),
            };
        }
    }
    text
}

/// Serves what `metrics` says, until the test ends.
fn serve(metrics: impl Fn() -> String + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("its address");
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let _ = BufReader::new(&client).lines().map_while(Result::ok).find(String::is_empty);
            let body = metrics();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            let _ = (&client).write_all((head + &body).as_bytes());
        }
    });
    address
}

/// Three workers of stable and one of the canary, with one queue, and a Prometheus that scrapes them.
struct Workers {
    prometheus: Prometheus,
    all: Arc<Vec<Worker>>,
    goes_on: Arc<AtomicBool>,
    _folder: TempDir,
}

impl Workers {
    /// The canary fails so many of ten attempts.
    fn new(failing: u64) -> Self {
        let worker = |(release, pod): (&'static str, &str)| Worker {
            release,
            pod: format!("mailer-{pod}"),
            counted: Arc::default(),
        };
        let pods = [
            ("stable", "567b989978-mnbnt"),
            ("stable", "567b989978-nh9vb"),
            ("stable", "567b989978-pb9tv"),
            ("canary", "canary-c66665c44-94ffz"),
        ];
        let workers = Arc::new(pods.into_iter().map(worker).collect::<Vec<_>>());
        let (queue, goes_on) = (Arc::default(), Arc::new(AtomicBool::new(true)));
        let mut targets = Vec::new();
        for (number, worker) in workers.iter().enumerate() {
            worker.work(&queue, if worker.release == "canary" { failing } else { 0 }, &goes_on);
            let all = Arc::clone(&workers);
            let address = serve(move || all[number].metrics());
            targets.push(
                json!({"targets": [address], "labels": {"release": worker.release, "pod": worker.pod}}),
            );
        }
        let all = Arc::clone(&workers);
        let exporter = json!([{"targets": [serve(move || exported(&all))]}]);
        let folder = tempfile::tempdir().expect("a folder");
        let files = [
            ("prometheus.yml", CONFIG.to_owned()),
            ("workers.json", json!(targets).to_string()),
            ("celery.json", exporter.to_string()),
        ];
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("a file");
        }
        let prometheus = Prometheus::start(folder.path());
        let twice =
            "count_over_time({__name__=~\"jobs_processed_total|celery_task_succeeded_total\"}[1h])>=2";
        eventually("each worker was scraped", || prometheus.query(twice).len() >= 3 * workers.len());
        Self { prometheus, all: workers, goes_on, _folder: folder }
    }

    /// The commands of the page, with the URL of this Prometheus.
    fn commands(&self) -> Vec<String> {
        let commands = commands(DOCUMENT).into_iter().map(|(command, _)| {
            assert!(command.contains("http://prometheus:9090"), "{command}");
            command.replace("http://prometheus:9090", &self.prometheus.url)
        });
        let commands: Vec<_> = commands.collect();
        assert_eq!(commands.len(), 3, "{commands:#?}");
        commands
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.goes_on.store(false, Ordering::Relaxed);
    }
}

/// Runs the commands beside each other. Each must end with this exit code. Returns the summaries.
fn judged(commands: &[String], wanted: i32) -> Vec<serde_json::Value> {
    let judges: Vec<_> = commands
        .iter()
        .map(|command| {
            (
                command,
                start_line(&format!("exec {command} --interval 1s --for 10m --alpha 0.1% --output json")),
            )
        })
        .collect();
    let ended = judges.into_iter().map(|(command, judge)| {
        let (code, summary, told) = ended(judge);
        assert_eq!(code, Some(wanted), "{command}\n{summary}\n{told}");
        summary
    });
    ended.collect()
}

#[test]
fn a_good_worker_is_promoted_by_each_command_of_the_page() {
    let workers = Workers::new(0);
    for summary in judged(&workers.commands(), 0) {
        let canary = &summary["releases"]["canary"];
        let counted = workers.all[3].counts().iter().sum::<u64>();
        assert!((300..=counted).contains(&canary["success"].as_u64().expect("a count")), "{summary}");
    }
}

#[test]
fn there_is_no_promotion_by_a_counter_of_failures_that_nobody_has() {
    let workers = Workers::new(10);
    let command = &workers.commands()[1];
    let wrong = command.replace("--failed sidekiq_jobs_failed_total", "--failed sidekiq_jobs_faild_total");
    assert_ne!(command, &wrong);
    let (code, summary, told) =
        ended(start_line(&format!("exec {wrong} --interval 1s --for 12s --output json")));
    assert_eq!(code, Some(5), "{summary}\n{told}");
    let why = "Prometheus does not know sidekiq_jobs_faild_total, so no failure would count";
    assert!(told.contains(why), "{told}");
}

#[test]
fn a_worker_that_fails_a_fifth_of_its_attempts_is_rolled_back_and_final_failures_alone_would_not_show_it() {
    let workers = Workers::new(2);
    let commands = workers.commands();
    for summary in judged(&commands, 1) {
        let canary = &summary["releases"]["canary"];
        let [failed, succeeded] = ["failure", "success"].map(|key| canary[key].as_u64().expect("a count"));
        assert!(failed * 10 > succeeded, "retries count: {summary}");
    }
    let retried = "celery_task_(succeeded|failed|retried)_total";
    let celery = commands.iter().find(|command| command.contains(retried)).expect("one counts retries");
    let last = celery
        .replace(retried, "celery_task_(succeeded|failed)_total")
        .replace("=~\"celery_task_(failed|retried)_total\"", "=\"celery_task_failed_total\"");
    assert!(!last.contains("retried"), "{last}");
    judged(&[last], 0);
    let attempts: Vec<u64> = workers.all.iter().map(|worker| worker.counts().iter().sum()).collect();
    // compared with all of them together: on a busy machine, each thread has another share of the time
    assert!(
        3 * attempts[3] > attempts[..3].iter().sum::<u64>(),
        "it took more than the others: {attempts:?}"
    );
}
