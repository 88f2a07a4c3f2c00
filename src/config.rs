//! The flags, each with an environment variable. They are parsed and validated before anything starts.

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt,
    net::SocketAddr,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use clap::{
    Arg, Command, CommandFactory, FromArgMatches, Parser, ValueEnum,
    builder::Resettable,
    error::{ContextKind, ContextValue, ErrorKind},
    value_parser,
};
use tracing_subscriber::filter::{LevelFilter, Targets};

use crate::service;

/// The default maximum number of open public connections.
pub const MAX_CONNECTIONS: u32 = 10_240;
/// The default of how long a connection may be idle between two requests. It must be longer than the load balancer's
/// own idle timeout: if the server closes a connection while the load balancer sends a request on it, that request
/// is lost. Google's load balancers keep connections for 600 s and advise 620 s for the server
/// (<https://cloud.google.com/load-balancing/docs/https#timeouts_and_retries>); those of AWS keep them for 60 s.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(620);
/// The default of how long to keep answering after SIGTERM.
pub const DRAIN_DELAY: Duration = Duration::from_secs(5);
/// The default of how long requests in flight may take to end after that.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// Says which pod answered: a service for learning, teaching and rehearsing canary deployments on Kubernetes.
#[derive(Clone, Debug, Parser)]
#[command(version = version(), args_override_self = true, next_line_help = true, after_help = AFTER_HELP)]
pub struct Config {
    /// Where to serve /v1/appinfo; without an address, on all addresses of this machine
    #[arg(long, env = "APPINFO_LISTEN", value_name = "[ADDRESS]:PORT", default_value = ":8080")]
    pub listen: Listen,

    /// Where to serve /healthz, /readyz and /metrics
    #[arg(long, env = "APPINFO_ADMIN_LISTEN", value_name = "[ADDRESS]:PORT", default_value = ":8081")]
    pub admin_listen: Listen,

    /// The file with the pod's labels, one per line: key="value"
    #[arg(long, env = "APPINFO_LABELS_FILE", value_name = "PATH", default_value = "/etc/labels")]
    pub labels_file: PathBuf,

    /// The format of log lines on standard output: text or json
    #[arg(
        long,
        env = "APPINFO_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text",
        hide_possible_values = true
    )]
    pub log_format: LogFormat,

    /// How long to keep answering after SIGTERM, while the pod is removed from endpoints
    #[arg(long, env = "APPINFO_DRAIN_DELAY", value_name = "TIME", default_value = text(DRAIN_DELAY))]
    #[arg(value_parser = duration)]
    pub drain_delay: Duration,

    /// After that, how long requests in flight may take to end
    #[arg(long, env = "APPINFO_DRAIN_TIMEOUT", value_name = "TIME", default_value = text(DRAIN_TIMEOUT))]
    #[arg(value_parser = duration)]
    pub drain_timeout: Duration,

    /// The log level: off, error, warn, info, debug or trace; also per module, as in warn,appinfo=debug
    #[arg(long, env = "RUST_LOG", value_name = "FILTER", default_value = "info", value_parser = log_filter)]
    pub log_filter: Targets,

    /// The maximum number of open connections on the public port; further ones wait
    #[arg(long, env = "APPINFO_MAX_CONNECTIONS", value_name = "COUNT", default_value_t = MAX_CONNECTIONS)]
    #[arg(value_parser = value_parser!(u32).range(1..))]
    pub max_connections: u32,

    /// How long a kept-alive connection may be idle; must be longer than the load balancer's idle timeout
    #[arg(long, env = "APPINFO_IDLE_TIMEOUT", value_name = "TIME", default_value = text(IDLE_TIMEOUT))]
    #[arg(value_parser = idle_timeout)]
    pub idle_timeout: Duration,
}

impl Config {
    /// Reads the flags of a command line, which begins with the program's name, and the environment variables of
    /// all other flags. An empty variable counts as not set.
    ///
    /// # Errors
    /// If a flag or a variable is invalid (the error names it), or if help or the version is requested.
    pub fn read(command_line: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let command_line: Vec<_> = command_line.into_iter().collect();
        let command = Self::command().mut_args(without_empty_variable);
        let parse = |mut command: Command| {
            let matches = command.try_get_matches_from_mut(&command_line)?;
            Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
        };
        parse(command.clone()).map_err(|error| {
            let fails_with = |variable| parse(command.clone().mut_args(with_only(variable))).is_err();
            if fails_with(None) {
                return error; // the command line itself is invalid
            }
            let mut variables = command.get_arguments().filter_map(Arg::get_env);
            match variables.find(|variable| fails_with(Some(variable))) {
                Some(variable) => name_variable(error, &variable.to_string_lossy(), &mut command.clone()),
                None => error,
            }
        })
    }
}

/// Removes a flag's variable if it is empty. The help still shows it.
fn without_empty_variable(flag: Arg) -> Arg {
    match flag.get_env() {
        Some(name) if env::var_os(name).is_some_and(|value| value.is_empty()) => {
            let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
            let help = format!("{help} [env: {}=]", name.to_string_lossy());
            flag.help(help).env(Resettable::Reset)
        }
        _ => flag,
    }
}

/// Removes the variables of all flags, except for this variable.
fn with_only(variable: Option<&OsStr>) -> impl Fn(Arg) -> Arg {
    move |flag| if flag.get_env() == variable { flag } else { flag.env(Resettable::Reset) }
}

/// Makes an error name the variable. clap would name the flag, which the user has not set.
fn name_variable(mut error: clap::Error, variable: &str, command: &mut Command) -> clap::Error {
    if error.kind() == ErrorKind::InvalidUtf8 {
        return command.error(error.kind(), format!("the variable {variable} is not UTF-8"));
    }
    error.insert(ContextKind::InvalidArg, ContextValue::String(variable.to_owned()));
    error
}

const AFTER_HELP: &str = "\
The pod's name and namespace come from the variables MY_POD_NAME and MY_POD_NAMESPACE, as the
downward API of Kubernetes provides them.";

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object per line.
    Json,
}

/// Where to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// On all addresses of this machine, IPv6 and IPv4, like Go's `":8080"`.
    Everywhere {
        /// The port; 0 lets the system choose.
        port: u16,
    },
    /// On one address.
    At(SocketAddr),
}

impl FromStr for Listen {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = match text.strip_prefix(':') {
            Some(port) => port.parse().ok().map(|port| Self::Everywhere { port }),
            None => text.parse().ok().map(Self::At),
        };
        parsed.ok_or(
            "want an IP address and a port, as in 127.0.0.1:8080 or [::1]:8080, or a port alone, as in :8080",
        )
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everywhere { port } => write!(f, ":{port}"),
            Self::At(address) => address.fmt(f),
        }
    }
}

fn text(time: Duration) -> String {
    format!("{}s", time.as_secs())
}

/// Parses a time such as `5s`, `1m 30s`, `1.5s` or `500ms`. A number without a unit, such as `0.5`, means seconds.
///
/// # Errors
/// If the text is neither a number nor a time with units.
pub fn duration(text: &str) -> Result<Duration, humantime::DurationError> {
    let is_a_number = text.contains(|it: char| it.is_ascii_digit())
        && text.chars().all(|it| it.is_ascii_digit() || it == '.');
    if is_a_number { humantime::parse_duration(&format!("{text}s")) } else { humantime::parse_duration(text) }
}

fn idle_timeout(text: &str) -> Result<Duration, String> {
    match duration(text) {
        Ok(Duration::ZERO) => Err("want more than 0: every request would need a new connection".to_owned()),
        time => time.map_err(|error| error.to_string()),
    }
}

/// Parses a log filter such as `warn,appinfo=debug`. Without any directive, the level is info. A module alone means
/// all its lines, so `RUST_LOG` may be the same for several programs.
fn log_filter(text: &str) -> Result<Targets, String> {
    let directives: Vec<_> = text.split(',').map(str::trim).filter(|it| !it.is_empty()).collect();
    if let Some(directive) = directives.iter().find(|directive| directive.contains('[')) {
        return Err(format!("{directive} has a span, which is not supported"));
    }
    if directives.is_empty() {
        return Ok(Targets::new().with_default(LevelFilter::INFO));
    }
    directives.join(",").parse().map_err(|error: <Targets as FromStr>::Err| error.to_string())
}

fn version() -> String {
    format!("{} ({})", env!("CARGO_PKG_VERSION"), service::selected().name())
}
