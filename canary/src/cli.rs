//! Every flag, parsed and validated before anything starts.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use appinfo::{
    config::Listen,
    http::faults::{FAULT_DELAY_MS, FAULT_PERCENT, Setting},
};
use clap::{Args, Parser, Subcommand, ValueEnum};
use hyper::header::HeaderName;

use crate::{
    judge::{Budget, Fraction, Ratio, Settings, Traffic},
    rehearse::Faults,
    serve::HostName,
    source::{
        probe::{Limits, Naming, Options, Pace, Resolve, Service, Target, Trust},
        prometheus::{self, Bucket, Credentials, Matchers, Metric, Prometheus, Queries},
    },
    trial::{Coverage, Trial},
};

/// Watch a rollout, judge it honestly, rehearse it with no cluster.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Show who answers: a live picture in a terminal, a line of JSON a second elsewhere
    #[command(after_help = WATCH_CODES)]
    Watch(WatchFlags),
    /// Say by exit code whether the canary is to be promoted or rolled back
    #[command(after_help = JUDGE_CODES)]
    Judge(JudgeFlags),
    /// Keep watching, and tell scripts, a page in the browser, Argo Rollouts and Flagger what may be said
    #[command(after_help = SERVE_CODES)]
    Serve(ServeFlags),
    /// Play the whole story on this machine, with real pods' servers and no cluster
    #[command(after_help = REHEARSE_CODES)]
    Rehearse(RehearseFlags),
}

const WATCH_CODES: &str = "\
Keys: q or Ctrl-C quit, p pause, r reset, Ctrl-Z suspend. Esc does nothing: arrow keys and the mouse begin with it.

Where a name has several addresses, each request goes to one of them at random, and one that has no answer is
attributed to the release that its address named last.

Exit codes:
  0    it was told to end, or --for or --count is over
  3    the command line cannot be used
  4    --for or --count is over, and no request was answered
  6    this machine failed: no terminal, output that cannot be written
  128+n  ended by signal n (but 0 on Ctrl-C)";

const JUDGE_CODES: &str = "\
Exit codes:
  0    promote: the canary fails at most --max-failure-rate; or, while stable itself fails more than that, at most
       --max-ratio times as often as stable
  1    roll back: the canary is worse than stable
  2    not yet: too little was seen when --for, --count or the input was over
  3    the command line cannot be used, or a line of --input
  4    no request was answered
  5    no answer named the stable release, or none named the canary
  6    this machine failed: input that cannot be read, output that cannot be written
  7    hold: as 2, but both releases fail more than --max-failure-rate, and nothing tells them apart: look for the
       cause elsewhere
  128+n  ended by signal n

The chance to roll back a canary that is no worse than stable is at most --alpha. So is the chance to promote one
that fails more than --max-failure-rate and more than --max-ratio times as often as stable. Looking after every
answer is accounted for; running judge again is not: each run has that chance anew.";

const SERVE_CODES: &str = "\
Exit codes:
  0    it was told to end, and has answered what was asked until then
  3    the command line cannot be used
  6    this machine failed: the port cannot be listened on
  128+n  ended by signal n before all was answered: by the second one

docs/serve.md tells the paths, the JSON, and when a trial begins.";

const REHEARSE_CODES: &str = "\
Keys: n or Enter next step, q or Ctrl-C quit, p pause, r reset, Ctrl-Z suspend. With --page, the page has buttons.

Exit codes:
  0    it was told to end; with --script: every step showed what the README says
  1    with --script: a step did not
  3    the command line cannot be used
  6    this machine failed: no terminal, no port, a file that cannot be written
  128+n  ended by signal n (but 0 on Ctrl-C in the picture and with --page)";

/// `canary watch`.
#[derive(Clone, Debug, Args)]
pub struct WatchFlags {
    /// What to ask.
    #[command(flatten)]
    pub probe: ProbeFlags,

    /// What to read instead.
    #[command(flatten)]
    pub prometheus: PrometheusFlags,

    /// How long to ask; without it, until told to end
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub time: Option<Duration>,

    /// How to judge.
    #[command(flatten)]
    pub trial: TrialFlags,

    /// picture, or json: a line a second and a summary; without it, a picture if standard output is a
    /// terminal
    #[arg(long, value_name = "FORM", hide_possible_values = true)]
    pub output: Option<WatchOutput>,
}

/// How `canary watch` tells what it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WatchOutput {
    /// A live picture, in a terminal.
    Picture,
    /// A line of JSON a second, and one for all of it at the end.
    Json,
}

/// `canary judge`.
#[derive(Clone, Debug, Args)]
pub struct JudgeFlags {
    /// What to ask.
    #[command(flatten)]
    pub probe: ProbeFlags,

    /// What to read instead.
    #[command(flatten)]
    pub prometheus: PrometheusFlags,

    /// How long to ask at most
    #[arg(long = "for", value_name = "TIME", default_value = "5m", value_parser = duration)]
    pub time: Duration,

    /// Judge outcomes that others have collected, one line of JSON each, in the order of sending: a file, or - for
    /// standard input. As in {"release":"canary","failed":false}
    #[arg(long, value_name = "FILE", conflicts_with_all = NOT_WITH_INPUT)]
    pub input: Option<PathBuf>,

    /// How to judge.
    #[command(flatten)]
    pub trial: TrialFlags,

    /// text: a few sentences at the end; or json: a line a second and a summary (with --input, the summary alone)
    #[arg(long, value_name = "FORM", default_value = "text", hide_possible_values = true)]
    pub output: JudgeOutput,
}

/// How `canary judge` tells what it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum JudgeOutput {
    /// In plain sentences.
    Text,
    /// A line of JSON a second, and one for all of it at the end.
    Json,
}

/// What says how to ask, and nothing of outcomes that others have collected.
const NOT_WITH_INPUT: [&str; 13] = [
    "prometheus",
    "target",
    "rate",
    "time",
    "timeout",
    "headers",
    "release_header",
    "pod_header",
    "stable_value",
    "canary_value",
    "resolve",
    "cacert",
    "insecure",
];

/// `canary serve`.
#[derive(Clone, Debug, Args)]
pub struct ServeFlags {
    /// What to ask.
    #[command(flatten)]
    pub probe: ProbeFlags,

    /// What to read instead.
    #[command(flatten)]
    pub prometheus: PrometheusFlags,

    /// Where to serve; a port alone, as in :8090, stands for every address of this machine
    #[arg(long, value_name = "[ADDRESS]:PORT", default_value = "127.0.0.1:8090")]
    pub listen: Listen,

    /// A name by which this server may be asked, beside localhost and IP addresses; may be given more than once
    #[arg(long, value_name = "NAME")]
    pub allow_host: Vec<HostName>,

    /// Let others than this machine's own users reset a trial; each reset is another chance to err
    #[arg(long)]
    pub allow_reset: bool,

    /// How to judge.
    #[command(flatten)]
    pub trial: TrialFlags,
}

/// `canary rehearse`.
#[derive(Clone, Debug, Args)]
pub struct RehearseFlags {
    /// Go through the story unattended, and check that each step shows what the README says
    #[arg(long)]
    pub script: bool,

    /// Show it in the browser, with a button for the next step, at that place, or at 127.0.0.1:8090; needs no terminal
    #[arg(long, value_name = "[ADDRESS]:PORT", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "127.0.0.1:8090", conflicts_with = "script")]
    pub page: Option<Listen>,

    /// With --page, a name by which the page may be asked for, beside localhost and IP addresses; may be repeated
    #[arg(long, value_name = "NAME", requires = "page")]
    pub allow_host: Vec<HostName>,

    /// Where to serve what the Service would; without it 127.0.0.1:8080, or another port if that one is taken
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,

    /// Requests a second that the picture or the page is made of
    #[arg(long, value_name = "NUMBER", default_value = "40", value_parser = rate)]
    pub rate: f64,

    /// How many of a hundred requests the fixed canary fails while it has the label fault-percent
    #[arg(long, value_name = "NUMBER", default_value = "5")]
    #[arg(value_parser = |text: &str| number(&FAULT_PERCENT, text))]
    pub fault_percent: f64,

    /// How many milliseconds it holds its answers back in that time, by the label fault-delay-ms
    #[arg(long, value_name = "NUMBER", default_value = "0")]
    #[arg(value_parser = |text: &str| number(&FAULT_DELAY_MS, text))]
    pub fault_delay_ms: f64,
}

impl RehearseFlags {
    /// What the fixed canary does for a while.
    pub fn faults(&self) -> Faults {
        Faults { percent: self.fault_percent, delay_ms: self.fault_delay_ms }
    }
}

/// What to ask, and how often.
#[derive(Clone, Debug, Args)]
pub struct ProbeFlags {
    /// The Service: http://HOST:PORT or https://HOST:PORT, and a path if it is not /v1/appinfo
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub target: Target,

    /// Requests a second, each on a connection of its own
    #[arg(long, value_name = "NUMBER", default_value = "10", value_parser = rate)]
    pub rate: f64,

    /// How long an answer may take
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    pub timeout: Duration,

    /// How many requests to send, or outcomes of --input to judge, at most
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// How the service is asked.
    #[command(flatten)]
    pub service: ServiceFlags,
}

/// How the service is asked, where it is not appinfo or is not to be reached directly.
#[derive(Clone, Debug, Args)]
pub struct ServiceFlags {
    /// Send this header with each request; may be repeated. Host and Authorization are allowed
    #[arg(long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,

    /// The header of an answer that names the release
    #[arg(long, value_name = "NAME", default_value = "x-release")]
    pub release_header: HeaderName,

    /// The header of an answer that names the pod
    #[arg(long, value_name = "NAME", default_value = "x-served-by")]
    pub pod_header: HeaderName,

    /// What --release-header says of the stable release
    #[arg(long, value_name = "TEXT", default_value = "stable")]
    pub stable_value: String,

    /// What --release-header says of the canary
    #[arg(long, value_name = "TEXT", default_value = "canary")]
    pub canary_value: String,

    /// Take these addresses for the host and port, as curl does; may be repeated
    #[arg(long, value_name = "HOST:PORT:ADDRESS[,ADDRESS]...")]
    pub resolve: Vec<Resolve>,

    /// With https://, trust the certificates of this PEM file instead of the platform's
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub cacert: Option<PathBuf>,

    /// With https://, trust any certificate
    #[arg(long)]
    pub insecure: bool,
}

impl ProbeFlags {
    /// The service that the flags say.
    ///
    /// # Errors
    /// If one of them cannot be used, in words.
    pub fn service(&self) -> Result<Service, String> {
        let ServiceFlags { headers, release_header, pod_header, stable_value, canary_value, resolve, .. } =
            self.service.clone();
        let naming = Naming { release_header, pod_header, stable: stable_value, canary: canary_value };
        let trust = self.service.trust();
        Service::new(self.target.clone(), Options { headers, naming, resolve, trust })
    }

    /// The pace that the flags say, for that long.
    pub fn pace(&self, time: Option<Duration>, max_latency: Option<Duration>) -> Pace {
        let limits = Limits { timeout: self.timeout, max_latency };
        Pace { rate: self.rate, limits, time, count: self.count }
    }
}

impl ServiceFlags {
    /// Whose certificates are accepted.
    pub fn trust(&self) -> Trust {
        match &self.cacert {
            _ if self.insecure => Trust::Anything,
            Some(path) => Trust::File(path.clone()),
            None => Trust::Platform,
        }
    }
}

/// What says how to ask a service, and nothing of Prometheus.
const NOT_WITH_PROMETHEUS: [&str; 11] = [
    "target",
    "rate",
    "timeout",
    "count",
    "headers",
    "release_header",
    "pod_header",
    "stable_value",
    "canary_value",
    "resolve",
    "max_latency",
];

/// Where a Prometheus is, and which of its counters to read.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Prometheus, instead of requests of our own")]
pub struct PrometheusFlags {
    /// Judge what really serves, by counters that this Prometheus has scraped: http://HOST:PORT or https://HOST:PORT
    #[arg(long = "prometheus", value_name = "URL", id = "prometheus", conflicts_with_all = NOT_WITH_PROMETHEUS)]
    pub url: Option<String>,

    /// How often to ask it; what it has follows its scrapes
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration, requires = "prometheus")]
    pub interval: Duration,

    /// The counter of requests, with what tells the service from others
    #[arg(long, value_name = "NAME{MATCHERS}", requires = "prometheus")]
    #[arg(default_value = r#"http_requests_total{app="appinfo",path="/v1/appinfo"}"#)]
    pub metric: Metric,

    /// Which of its series are the stable release's
    #[arg(long, value_name = "MATCHERS", default_value = r#"release="stable""#, requires = "prometheus")]
    pub stable: Matchers,

    /// Which of its series are the canary's
    #[arg(long, value_name = "MATCHERS", default_value = r#"release="canary""#, requires = "prometheus")]
    pub canary: Matchers,

    /// Which of its series count failures
    #[arg(long, value_name = "MATCHERS", default_value = r#"status=~"5..""#, requires = "prometheus")]
    pub failed: Matchers,

    /// Slower answers count as failures, too: the histogram's bucket of those in time, as in
    /// `http_request_duration_seconds_bucket{le="0.25"}`. The matchers of --metric apply to it
    #[arg(long, value_name = "BUCKET", requires = "prometheus")]
    pub slow: Option<Bucket>,

    /// Send the bearer token that is in this file
    #[arg(long, value_name = "FILE", requires = "prometheus", conflicts_with = "user")]
    pub bearer_token_file: Option<PathBuf>,

    /// Send this name, and a password, by basic authentication
    #[arg(long, value_name = "NAME", requires_all = ["prometheus", "password_file"])]
    pub user: Option<String>,

    /// The file with the password
    #[arg(long, value_name = "FILE", requires = "user")]
    pub password_file: Option<PathBuf>,
}

impl PrometheusFlags {
    /// Whether Prometheus is to be asked.
    pub fn is_used(&self) -> bool {
        self.url.is_some()
    }

    /// What is read, as a person is told.
    pub fn title(&self) -> String {
        format!("{} for {}", self.url.as_deref().unwrap_or_default(), self.metric)
    }

    /// Begins to look, for so long. To be called within a tokio runtime.
    ///
    /// # Errors
    /// If a flag cannot be used, in words.
    pub fn start(&self, trust: &Trust, time: Option<Duration>) -> Result<Prometheus, String> {
        let Self { metric, stable, canary, failed, slow, bearer_token_file, user, password_file, .. } =
            self.clone();
        let credentials = match (bearer_token_file, user, password_file) {
            (Some(token), ..) => Credentials::Bearer(token),
            (None, Some(user), Some(password)) => Credentials::Basic(user, password),
            _ => Credentials::None,
        };
        let options = prometheus::Options {
            url: self.url.clone().unwrap_or_default(),
            credentials,
            trust: trust.clone(),
            queries: Queries { requests: metric, stable, canary, failed, slow },
            every: self.interval,
        };
        Prometheus::start(&options, time)
    }
}

/// How to judge.
#[derive(Clone, Debug, Args)]
pub struct TrialFlags {
    /// How likely a wrong verdict may be
    #[arg(long, value_name = "SHARE", default_value = "0.05")]
    pub alpha: Fraction,

    /// The share of requests that a release may fail
    #[arg(long, value_name = "SHARE", default_value = "1%")]
    pub max_failure_rate: Fraction,

    /// How many times as often as stable the canary may fail while stable itself fails more than
    /// --max-failure-rate
    #[arg(long, value_name = "NUMBER", default_value = "2")]
    pub max_ratio: Ratio,

    /// A slower answer counts as a failure
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub max_latency: Option<Duration>,

    /// Requests a second that the Service really gets, to tell what the canary costs; without it, --rate or
    /// what is counted
    #[arg(long, value_name = "NUMBER")]
    pub traffic: Option<Traffic>,

    /// The canary's share of the requests, where weights decide it and not the number of pods: a mark beside the share
    /// that is seen; it decides nothing
    #[arg(long, value_name = "SHARE")]
    pub share: Option<Fraction>,

    /// The share of requests that the Service promises to answer well
    #[arg(long, value_name = "SHARE", default_value = "99.9%")]
    pub slo: Fraction,
}

impl TrialFlags {
    /// A trial of requests that are sent at that rate, in a second. Unless the flags tell the Service's traffic, it
    /// is taken to get what is sent to it.
    ///
    /// # Errors
    /// If the rate is no traffic.
    pub fn of_sample(&self, rate: f64, now: Instant) -> io::Result<Trial> {
        let traffic = self.traffic.map_or_else(|| Traffic::new(rate), Ok).map_err(io::Error::other)?;
        Ok(self.trial(Some(self.budget(traffic)), Coverage::Sample, now))
    }

    /// A trial of the requests that the service has got.
    pub fn of_all(&self, now: Instant) -> Trial {
        let budget = self.traffic.map(|traffic| self.budget(traffic));
        self.trial(budget, Coverage::All, now)
    }

    fn trial(&self, budget: Option<Budget>, coverage: Coverage, now: Instant) -> Trial {
        Trial::new(self.settings(), budget, coverage, now).with_given_share(self.share)
    }

    /// A trial of the requests that the service's own counters tell of. Unless the flags tell the Service's traffic,
    /// it is what they count.
    pub fn of_counters(&self, now: Instant) -> Trial {
        let budget = self.traffic.map(|traffic| self.budget(traffic));
        let coverage = if budget.is_some() { Coverage::All } else { Coverage::Counted(self.slo) };
        self.trial(budget, coverage, now)
    }

    fn settings(&self) -> Settings {
        let Self { alpha, max_failure_rate, max_ratio, max_latency, .. } = *self;
        Settings { alpha, max_failure_rate, max_ratio, max_latency }
    }

    fn budget(&self, traffic: Traffic) -> Budget {
        Budget { traffic, slo: self.slo }
    }
}

/// Parses a time as appinfo's flags do; it must be more than zero.
fn duration(text: &str) -> Result<Duration, String> {
    match appinfo::config::duration(text) {
        Ok(Duration::ZERO) => Err("want more than no time".to_owned()),
        Ok(time) => Ok(time),
        Err(error) => Err(error.to_string()),
    }
}

/// Parses a number as the service parses that label's value.
fn number(setting: &Setting, text: &str) -> Result<f64, String> {
    setting.parse(text).ok_or_else(|| format!("want {}", setting.want))
}

fn rate(text: &str) -> Result<f64, &'static str> {
    let wanted = "want a number from 0.01 to 2000";
    text.parse().ok().filter(|rate| (0.01..=2000.0).contains(rate)).ok_or(wanted)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn flags_are_declared_without_contradiction() {
        Cli::command().debug_assert();
    }

    #[test]
    fn rates_and_times_must_be_more_than_nothing() {
        for bad in ["0", "-1", "NaN", "inf", "2001", "fast"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert!(duration("0s").is_err() && duration("0.0").is_err() && duration("soon").is_err());
    }
}
