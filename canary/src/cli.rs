//! Every flag, parsed and validated before anything starts.

use std::{
    env,
    ffi::OsString,
    io,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use appinfo::{
    config::Listen,
    http::faults::{FAULT_DELAY_MS, FAULT_PERCENT, Setting},
};
use clap::{
    Args, Parser, Subcommand, ValueEnum,
    error::{ContextKind, ContextValue, ErrorKind},
};
use hyper::header::HeaderName;

use crate::{
    rehearse::Faults,
    serve::HostName,
    source::{
        probe::{Limits, Naming, Options, Pace, PodPattern, PodsOfReleases, Resolve, Service, Target, Trust},
        prometheus::{self, Address, Bucket, Credentials, Matchers, Metric, Prometheus, Queries},
        shown,
    },
    trial::{Coverage, Trial},
};
use canary_judge::{Budget, Fraction, InvalidNumber, Ratio, Settings, Traffic};

/// Watch a canary rollout, judge it, and rehearse it without a cluster
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
    /// Show which pods answer: a live picture in a terminal, otherwise a line of JSON a second
    #[command(after_help = WATCH_CODES)]
    Watch(WatchFlags),
    /// Decide whether to promote the canary or to roll it back; the exit code is the verdict
    #[command(after_help = JUDGE_CODES)]
    Judge(JudgeFlags),
    /// Keep watching, and serve the verdict: a page for the browser, JSON for scripts, Argo Rollouts and Flagger
    #[command(after_help = SERVE_CODES)]
    Serve(ServeFlags),
    /// Go through the whole walkthrough on this machine, with the pods' real servers and without a cluster
    #[command(after_help = REHEARSE_CODES)]
    Rehearse(RehearseFlags),
}

const WATCH_CODES: &str = "\
Keys: q or Ctrl-C quit, p pause, r reset, Ctrl-Z suspend.

If a name has several addresses, each request goes to one of them at random. A request without an
answer is attributed to the release that this address named last, unless it names several.

Exit codes:
  0    ended by a key or Ctrl-C, or after --for or --count
  3    a mistake in the command line
  4    no request was answered within --for or --count
  6    no terminal, or the output cannot be written
  128+n  ended by signal n (but 0 on Ctrl-C)";

const JUDGE_CODES: &str = "\
Exit codes:
  0    promote: the canary fails at most --max-failure-rate, or stable fails more than that
       and the canary at most --max-ratio times as often
  1    roll back: the canary is worse than stable
  2    not yet: there were too few answers within --for, --count or the input
  3    a mistake in the command line, or in a line of --input
  4    no request was answered
  5    no answer named the stable release, or none named the canary
  6    the input cannot be read, or the output cannot be written
  7    hold: as 2, but both releases fail more than --max-failure-rate, without a clear
       difference between them: look for the cause elsewhere
  128+n  ended by signal n

The probability of rolling back a canary that is no worse than stable is at most --alpha. So is
the probability of promoting one that fails more than --max-failure-rate and more than
--max-ratio times as often as stable. This holds for one run, however often it looks. Each
further run has the same probability again.";

const SERVE_CODES: &str = "\
Exit codes:
  0    ended by a signal, after all requests were answered
  3    a mistake in the command line
  6    the port cannot be used
  128+n  ended by a second signal n, before all requests were answered

docs/serve.md describes the paths, the JSON, and when a trial begins.";

const REHEARSE_CODES: &str = "\
Keys: n or Enter next step, q or Ctrl-C quit, p pause, r reset, Ctrl-Z suspend. With --page, the
page has buttons.

Exit codes:
  0    ended by a key or Ctrl-C; with --script: every step had the result that the README describes
  1    with --script: a step had another result
  3    a mistake in the command line
  6    no terminal, no free port, too few open files (ulimit -n), or a file cannot be written
  128+n  ended by signal n (but 0 on Ctrl-C in the picture and with --page)";

/// `canary watch`.
#[derive(Clone, Debug, Args)]
pub struct WatchFlags {
    /// Where to send requests.
    #[command(flatten)]
    pub probe: ProbeFlags,

    /// What to read instead of sending requests.
    #[command(flatten)]
    pub prometheus: PrometheusFlags,

    /// How long to watch; without it, until Ctrl-C
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub time: Option<Duration>,

    /// How to judge.
    #[command(flatten)]
    pub trial: TrialFlags,

    /// picture, or json: a line a second and a summary. The default is a picture if standard output is a terminal
    #[arg(long, value_name = "FORM", hide_possible_values = true)]
    pub output: Option<WatchOutput>,
}

/// The output of `canary watch`.
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
    /// Where to send requests.
    #[command(flatten)]
    pub probe: ProbeFlags,

    /// What to read instead of sending requests.
    #[command(flatten)]
    pub prometheus: PrometheusFlags,

    /// How long to judge at most
    #[arg(long = "for", value_name = "TIME", default_value = "5m", value_parser = duration)]
    pub time: Duration,

    /// Judge collected outcomes instead of sending requests: a file, or - for standard input, with one line of JSON for
    /// each request, in the order of sending, such as {"release":"canary","failed":false}
    #[arg(long, value_name = "FILE", conflicts_with_all = NOT_WITH_INPUT)]
    pub input: Option<PathBuf>,

    /// Write what is counted, and the settings, to this file: `canary judge --input FILE` then says the same again
    #[arg(long, value_name = "FILE", conflicts_with = "input")]
    pub record: Option<PathBuf>,

    /// How to judge.
    #[command(flatten)]
    pub trial: TrialFlags,

    /// text: a few sentences at the end; or json: a line a second and a summary (with --input, the summary alone)
    #[arg(long, value_name = "FORM", default_value = "text", hide_possible_values = true)]
    pub output: JudgeOutput,
}

/// The output of `canary judge`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum JudgeOutput {
    /// A few sentences.
    Text,
    /// A line of JSON a second, and one for all of it at the end.
    Json,
}

/// Flags about sending requests, which do not go with `--input`.
const NOT_WITH_INPUT: [&str; 15] = [
    "stable_pods",
    "canary_pods",
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
    /// Where to send requests.
    #[command(flatten)]
    pub probe: ProbeFlags,

    /// What to read instead of sending requests.
    #[command(flatten)]
    pub prometheus: PrometheusFlags,

    /// Where to serve; :8090 means port 8090 of every address of this machine
    #[arg(long, value_name = "[ADDRESS]:PORT", default_value = "127.0.0.1:8090")]
    pub listen: Listen,

    /// Where to serve /healthz, /readyz and /metrics as well, for probes that must not wait behind clients
    #[arg(long, value_name = "[ADDRESS]:PORT")]
    pub admin_listen: Option<Listen>,

    /// A host name that clients may use, besides localhost and IP addresses; may be repeated
    #[arg(long, value_name = "NAME")]
    pub allow_host: Vec<HostName>,

    /// Let other machines reset a trial; each reset is another chance to err
    #[arg(long)]
    pub allow_reset: bool,

    /// Write what is counted, and the settings, to this file, up to 256 MiB: `canary judge --input FILE` reads it
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,

    /// A file with a secret. Who shows it may reset a trial, and end a rollout at once
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// How to judge.
    #[command(flatten)]
    pub trial: TrialFlags,
}

/// `canary rehearse`.
#[derive(Clone, Debug, Args)]
pub struct RehearseFlags {
    /// Go through all steps unattended, and check that each has the result that the README describes
    #[arg(long)]
    pub script: bool,

    /// Show it in the browser, with a button for the next step, at this address (127.0.0.1:8090 if none is given)
    #[arg(long, value_name = "[ADDRESS]:PORT", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "127.0.0.1:8090", conflicts_with = "script")]
    pub page: Option<Listen>,

    /// With --page, a host name that browsers may use, besides localhost and IP addresses; may be repeated
    #[arg(long, value_name = "NAME", requires = "page")]
    pub allow_host: Vec<HostName>,

    /// The address of the Service. The default is 127.0.0.1:8080, or a free port if 8080 is taken
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,

    /// Requests a second for the picture or the page
    #[arg(long, value_name = "NUMBER", default_value = "40", value_parser = rate)]
    pub rate: f64,

    /// The percentage of requests that the fixed canary fails while it has the label fault-percent
    #[arg(long, value_name = "NUMBER", default_value = "5")]
    #[arg(value_parser = |text: &str| number(&FAULT_PERCENT, text))]
    pub fault_percent: f64,

    /// The delay of its answers in that time, in milliseconds, by the label fault-delay-ms
    #[arg(long, value_name = "NUMBER", default_value = "0")]
    #[arg(value_parser = |text: &str| number(&FAULT_DELAY_MS, text))]
    pub fault_delay_ms: f64,
}

impl Cli {
    /// Parses the command line. Its errors show no secret of a URL.
    ///
    /// # Errors
    /// For a mistake in the command line, and for `--help` and `--version`.
    pub fn from_arguments() -> Result<Self, clap::Error> {
        Self::parse_arguments(&env::args_os().collect::<Vec<_>>())
    }

    fn parse_arguments(arguments: &[OsString]) -> Result<Self, clap::Error> {
        let parsed = Self::try_parse_from(arguments);
        parsed.map_err(|error| without_secrets(with_hint_at_equals_sign(error, arguments)))
    }
}

/// The same error. It hints at the sign that `--page` needs before its value.
fn with_hint_at_equals_sign(mut error: clap::Error, arguments: &[OsString]) -> clap::Error {
    let unexpected = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => argument.clone(),
        _ => return error,
    };
    let after_page = |pair: &[OsString]| pair[0] == "--page" && pair[1] == *unexpected;
    if error.kind() == ErrorKind::UnknownArgument && arguments.windows(2).any(after_page) {
        let tip = format!("write '--page={unexpected}', with an equals sign");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

/// The same error, with URLs as they may be shown. An invalid URL may have any form, so all that may be one counts.
fn without_secrets(mut error: clap::Error) -> clap::Error {
    let is_of_url = matches!(error.get(ContextKind::InvalidArg), Some(ContextValue::String(flag)) if flag.contains("URL"));
    let hidden = |kind: ContextKind, value: &ContextValue| match value {
        ContextValue::String(text) => {
            let may_be = match kind {
                ContextKind::InvalidValue => is_of_url,
                ContextKind::InvalidArg | ContextKind::InvalidSubcommand => text.contains('@'),
                _ => false,
            };
            (may_be || text.contains("://")).then(|| (kind, ContextValue::String(shown::url(text))))
        }
        _ => None,
    };
    let hidden: Vec<_> = error.context().filter_map(|(kind, value)| hidden(kind, value)).collect();
    for (kind, value) in hidden {
        error.insert(kind, value);
    }
    error
}

impl RehearseFlags {
    /// What the fixed canary does for a while.
    pub fn faults(&self) -> Faults {
        Faults { percent: self.fault_percent, delay_ms: self.fault_delay_ms }
    }
}

/// Where to send requests, and how often.
#[derive(Clone, Debug, Args)]
pub struct ProbeFlags {
    /// The Service: http://HOST:PORT or https://HOST:PORT, and a path if it is not /v1/appinfo
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub target: Target,

    /// Requests a second, each on a new connection
    #[arg(long, value_name = "NUMBER", default_value = "10", value_parser = rate)]
    pub rate: f64,

    /// How long an answer may take
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    pub timeout: Duration,

    /// The maximum number of requests to send, or of outcomes of --input to judge
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// How the service is asked.
    #[command(flatten)]
    pub service: ServiceFlags,
}

/// Flags for services other than appinfo, and for other ways to reach them.
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

    /// The value of --release-header for the stable release
    #[arg(long, value_name = "TEXT", default_value = "stable")]
    pub stable_value: String,

    /// The value of --release-header for the canary
    #[arg(long, value_name = "TEXT", default_value = "canary")]
    pub canary_value: String,

    /// Tell the stable release by its pods' names instead of --release-header: a name in which * stands for any text,
    /// such as appinfo-primary-*. If a name fits both patterns, the more exact one counts
    #[arg(long, value_name = "NAME", requires = "canary_pods")]
    #[arg(conflicts_with_all = ["release_header", "stable_value", "canary_value"])]
    pub stable_pods: Option<PodPattern>,

    /// Tell the canary by its pods' names in the same way, such as appinfo-*
    #[arg(long, value_name = "NAME", requires = "stable_pods")]
    pub canary_pods: Option<PodPattern>,

    /// Use these addresses for this host and port, as in curl; may be repeated
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
    /// The service that these flags describe.
    ///
    /// # Errors
    /// If a flag cannot be used: the cause, in words.
    pub fn service(&self) -> Result<Service, String> {
        let ServiceFlags { headers, release_header, pod_header, stable_value, canary_value, resolve, .. } =
            self.service.clone();
        let pods = self.service.stable_pods.clone().zip(self.service.canary_pods.clone());
        let pods = pods.map(|(stable, canary)| PodsOfReleases { stable, canary });
        let naming = Naming { release_header, pod_header, stable: stable_value, canary: canary_value, pods };
        let trust = self.service.trust();
        Service::new(self.target.clone(), Options { headers, naming, resolve, trust })
    }

    /// The pace that these flags describe, for this long.
    pub fn pace(&self, time: Option<Duration>, max_latency: Option<Duration>) -> Pace {
        let limits = Limits { timeout: self.timeout, max_latency };
        Pace { rate: self.rate, limits, time, count: self.count }
    }
}

impl ServiceFlags {
    /// The certificates that are accepted.
    pub fn trust(&self) -> Trust {
        match &self.cacert {
            _ if self.insecure => Trust::Anything,
            Some(path) => Trust::File(path.clone()),
            None => Trust::Platform,
        }
    }
}

/// Flags about sending requests, which do not go with `--prometheus`.
const NOT_WITH_PROMETHEUS: [&str; 13] = [
    "stable_pods",
    "canary_pods",
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

/// A Prometheus, and which of its counters to read.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Prometheus, instead of requests of our own")]
pub struct PrometheusFlags {
    /// Judge by the counters in this Prometheus instead of sending requests: http://HOST:PORT or https://HOST:PORT
    #[arg(long = "prometheus", value_name = "URL", id = "prometheus", conflicts_with_all = NOT_WITH_PROMETHEUS)]
    pub url: Option<Address>,

    /// How often to query Prometheus
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration, requires = "prometheus")]
    pub interval: Duration,

    /// The counter of requests, with matchers that select the service
    #[arg(long, value_name = "NAME{MATCHERS}", requires = "prometheus")]
    #[arg(default_value = r#"http_requests_total{app="appinfo",path="/v1/appinfo",method=~"GET|HEAD"}"#)]
    pub metric: Metric,

    /// Selects the series of the stable release
    #[arg(long, value_name = "MATCHERS", default_value = r#"release="stable""#, requires = "prometheus")]
    pub stable: Matchers,

    /// Selects the series of the canary
    #[arg(long, value_name = "MATCHERS", default_value = r#"release="canary""#, requires = "prometheus")]
    pub canary: Matchers,

    /// Selects the series that count failures
    #[arg(long, value_name = "MATCHERS", default_value = r#"status=~"5..""#, requires = "prometheus")]
    pub failed: Matchers,

    /// Count slow answers as failures: the histogram bucket of the answers in time, such as
    /// `http_request_duration_seconds_bucket{le="0.25"}`. The matchers of --metric apply to it, too
    #[arg(long, value_name = "BUCKET", requires = "prometheus")]
    pub slow: Option<Bucket>,

    /// Send the bearer token in this file
    #[arg(long, value_name = "FILE", requires = "prometheus", conflicts_with = "user")]
    pub bearer_token_file: Option<PathBuf>,

    /// The user name for basic authentication
    #[arg(long, value_name = "NAME", requires_all = ["prometheus", "password_file"])]
    pub user: Option<String>,

    /// The file with the password for --user
    #[arg(long, value_name = "FILE", requires = "user")]
    pub password_file: Option<PathBuf>,

    /// Send this header with each query, such as X-Scope-OrgID for Mimir; may be repeated
    #[arg(long = "prometheus-header", value_name = "NAME: VALUE", requires = "prometheus")]
    pub prometheus_headers: Vec<String>,
}

impl PrometheusFlags {
    /// Whether the source is Prometheus.
    pub fn is_used(&self) -> bool {
        self.url.is_some()
    }

    /// The source, for messages.
    pub fn title(&self) -> String {
        let address = self.url.as_ref().map(ToString::to_string).unwrap_or_default();
        format!("{address} for {}", self.metric)
    }

    /// Starts to query Prometheus, for this long. Call it within a tokio runtime.
    ///
    /// # Errors
    /// If a flag cannot be used: the cause, in words.
    pub fn start(&self, trust: &Trust, time: Option<Duration>) -> Result<Prometheus, String> {
        let Self { metric, stable, canary, failed, slow, bearer_token_file, user, password_file, .. } =
            self.clone();
        let address = self.url.clone().ok_or("--prometheus is missing")?;
        let credentials = match (bearer_token_file, user, password_file) {
            (Some(token), ..) => Credentials::Bearer(token),
            (None, Some(user), Some(password)) => Credentials::Basic(user, password),
            _ => Credentials::None,
        };
        let options = prometheus::Options {
            address,
            headers: self.prometheus_headers.clone(),
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
    /// The maximum probability of a wrong verdict
    #[arg(long, value_name = "SHARE", default_value = "0.05", value_parser = fraction)]
    pub alpha: Fraction,

    /// The maximum share of requests that a release may fail
    #[arg(long, value_name = "SHARE", default_value = "1%", value_parser = fraction)]
    pub max_failure_rate: Fraction,

    /// How many times as often as stable the canary may fail, if stable itself fails more than --max-failure-rate
    #[arg(long, value_name = "NUMBER", default_value = "2")]
    pub max_ratio: Ratio,

    /// A slower answer counts as a failure
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub max_latency: Option<Duration>,

    /// Requests a second that the Service really gets, for the price of the canary. The default is --rate, or the
    /// traffic that Prometheus has counted
    #[arg(long, value_name = "NUMBER")]
    pub traffic: Option<Traffic>,

    /// The canary's share of the requests if weights decide it, and not the number of pods. It is only a mark beside
    /// the observed share; the judge does not use it
    #[arg(long, value_name = "SHARE", value_parser = fraction)]
    pub share: Option<Fraction>,

    /// The objective: the share of requests that the Service promises to answer well
    #[arg(long, value_name = "SHARE", default_value = "99.9%", value_parser = fraction)]
    pub slo: Fraction,
}

impl TrialFlags {
    /// A trial of requests that are sent at this rate, in requests a second. Without `--traffic`, this rate is also taken
    /// for the Service's traffic.
    ///
    /// # Errors
    /// If the rate is not a valid traffic.
    pub fn of_sample(&self, rate: f64, now: Instant) -> io::Result<Trial> {
        let traffic = self.traffic.map_or_else(|| Traffic::new(rate), Ok).map_err(io::Error::other)?;
        Ok(self.trial(Some(self.budget(traffic)), Coverage::Sample, now))
    }

    /// A trial of all requests that the service has got.
    pub fn of_all(&self, now: Instant) -> Trial {
        let budget = self.traffic.map(|traffic| self.budget(traffic));
        self.trial(budget, Coverage::All, now)
    }

    fn trial(&self, budget: Option<Budget>, coverage: Coverage, now: Instant) -> Trial {
        Trial::new(self.settings(), budget, coverage, now).with_given_share(self.share)
    }

    /// A trial of the requests that the service's own counters count. Without `--traffic`, they also give the Service's
    /// traffic.
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

/// Parses a time in the form of appinfo's flags. It must be more than zero.
fn duration(text: &str) -> Result<Duration, String> {
    match appinfo::config::duration(text) {
        Ok(Duration::ZERO) => Err("want more than no time".to_owned()),
        Ok(time) => Ok(time),
        Err(error) => Err(error.to_string()),
    }
}

/// Parses a share. If a number has no `%`, and would be a share with it, the message says how to write it.
fn fraction(text: &str) -> Result<Fraction, String> {
    text.parse().map_err(|error: InvalidNumber| match error {
        InvalidNumber::NotAFraction(number) if (1.0..100.0).contains(&number) && !text.contains('%') => {
            // rounded, because 99.9 / 100.0 is not 0.999
            format!("{error}: write {number}% or {}", (number * 1e10).round() / 1e12)
        }
        error => error.to_string(),
    })
}

/// Parses a number in the form of the label's value.
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
    fn a_share_without_its_sign_is_refused_with_the_way_to_write_it() {
        for (text, told) in [
            ("5", "5 does not lie strictly between 0 and 1 (0 % and 100 %): write 5% or 0.05"),
            ("1", "1 does not lie strictly between 0 and 1 (0 % and 100 %): write 1% or 0.01"),
            ("99.9", "99.9 does not lie strictly between 0 and 1 (0 % and 100 %): write 99.9% or 0.999"),
            ("0", "0 does not lie strictly between 0 and 1 (0 % and 100 %)"),
            ("100", "100 does not lie strictly between 0 and 1 (0 % and 100 %)"),
            ("500%", "5 does not lie strictly between 0 and 1 (0 % and 100 %)"),
            ("many", "\"many\" is not a number"),
        ] {
            assert_eq!(fraction(text), Err(told.to_owned()));
            for flag in ["--alpha", "--max-failure-rate", "--share", "--slo"] {
                let arguments = ["canary", "judge", flag, text].map(OsString::from);
                let error = Cli::parse_arguments(&arguments).expect_err(text).to_string();
                assert!(error.contains(told), "{flag}: {error}");
            }
        }
        assert_eq!(fraction("5%"), Ok(Fraction::new(0.05).expect("a fraction")));
    }

    #[test]
    fn an_address_after_page_needs_an_equals_sign() {
        let error = |arguments: &[&str]| {
            let arguments: Vec<_> =
                ["canary", "rehearse"].iter().chain(arguments).map(OsString::from).collect();
            Cli::parse_arguments(&arguments).expect_err("unusable").to_string()
        };
        let told = error(&["--page", ":8095"]);
        assert!(told.contains("write '--page=:8095', with an equals sign"), "{told}");
        assert!(!error(&["--script", ":8095"]).contains("equals"));
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
