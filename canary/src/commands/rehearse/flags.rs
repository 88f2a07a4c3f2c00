//! The flags of `canary rehearse`.

use std::net::SocketAddr;

use appinfo::{
    config::Listen,
    http::faults::{FAULT_DELAY_MS, FAULT_PERCENT, Setting},
};
use clap::{ArgGroup, Args, builder::ArgPredicate::IsPresent};

use crate::{rehearse::Faults, serve::HostName, source::probe::rate};

/// What `--help` says at the end.
pub(crate) const HELP: &str = "\
Examples:
  canary rehearse                      in the terminal, step by step
  canary rehearse --page               in the browser
  canary rehearse --vote               the same, and a class votes with its phones
  canary rehearse --mystery            in the browser, with a canary of which nobody knows how it is
  canary rehearse --script             unattended, with a check of each step

Keys: n or Enter next step, q or Ctrl-C quit, p pause, r reset, Ctrl-Z suspend. With --page, the
page has buttons, and the keys n, p, j (hide the judge), d (details), s (sliders: the canary's
share, its failures and delay, the rate, an incident) and, with --vote, v (where phones vote).

Exit codes:
  0    ended by a key or Ctrl-C; with --script: every step had the result that the documents describe
  1    with --script: a step had another result
  3    a mistake in the command line
  6    no terminal, no free port, no network for --vote, too few open files (ulimit -n), or a file
       cannot be written
  128+n  ended by signal n (but 0 on Ctrl-C in the picture and with --page)";

/// The page's address, if none is given.
const PAGE: &str = "127.0.0.1:8090";

/// `canary rehearse`.
#[derive(Clone, Debug, Args)]
#[command(group = ArgGroup::new("browser").args(["page", "vote", "mystery"]).multiple(true))]
pub struct RehearseFlags {
    /// Go through all steps unattended, and check that each has the result that the documents describe
    #[arg(long)]
    pub script: bool,

    /// Show it in the browser, with a button for the next step, at this address (127.0.0.1:8090 if none is given)
    #[arg(long, value_name = "[ADDRESS]:PORT", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = PAGE, conflicts_with = "script")]
    #[arg(default_value_ifs = [("vote", IsPresent, PAGE), ("mystery", IsPresent, PAGE)])]
    pub page: Option<Listen>,

    /// As --page, and let a class vote while the judge is hidden: phones in the room's network open the printed address, by
    /// default at port 8091, and can do nothing else there
    #[arg(long, value_name = "[ADDRESS]:PORT", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "0.0.0.0:8091", conflicts_with = "script")]
    pub vote: Option<Listen>,

    /// As --page, and hide whether and how the canary is bad, until the class has decided and the judge has answered. The
    /// same seed is the same riddle, and the next seed the one after it; without one, a seed is drawn and told
    #[arg(long, value_name = "SEED", num_args = 0..=1, value_parser = seed)]
    #[arg(conflicts_with_all = ["script", "fault_percent", "fault_delay_ms"])]
    pub mystery: Option<Option<u32>>,

    /// With --page, a host name that browsers may use, besides localhost and IP addresses; may be repeated
    #[arg(long, value_name = "NAME", requires = "browser", conflicts_with = "script")]
    pub allow_host: Vec<HostName>,

    /// The address of the Service. The default is 127.0.0.1:8080, or a free port if 8080 is taken
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address)]
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

impl RehearseFlags {
    /// What the fixed canary does for a while.
    pub fn faults(&self) -> Faults {
        Faults { percent: self.fault_percent, delay_ms: self.fault_delay_ms }
    }
}

/// Parses the seed of a mystery.
fn seed(text: &str) -> Result<u32, String> {
    let most = u32::MAX;
    text.parse().map_err(|_| format!("want a whole number from 0 to {most}"))
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "want an IP address and a port, as in 127.0.0.1:8080 or [::1]:8080")
}

/// Parses a number in the form of the label's value.
fn number(setting: &Setting, text: &str) -> Result<f64, String> {
    setting.parse(text).ok_or_else(|| format!("want {}", setting.want))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        flags: RehearseFlags,
    }

    fn page(flags: &str) -> Option<Listen> {
        let words = ["rehearse"].into_iter().chain(flags.split_whitespace());
        Only::try_parse_from(words).unwrap_or_else(|error| panic!("{flags}: {error}")).flags.page
    }

    #[test]
    fn a_vote_or_a_mystery_is_in_the_browser_at_the_usual_address_or_at_a_given_one() {
        let at = |address: &str| Some(Listen::At(address.parse().expect("an address")));
        for flags in [
            "--page",
            "--vote",
            "--vote=:8091",
            "--mystery",
            "--mystery 7",
            "--mystery --vote --allow-host=a",
        ] {
            assert_eq!(page(flags), at("127.0.0.1:8090"), "{flags}");
        }
        for flags in ["--page=127.0.0.1:1 --vote", "--mystery 7 --page=127.0.0.1:1"] {
            assert_eq!(page(flags), at("127.0.0.1:1"), "{flags}");
        }
        for flags in ["", "--script", "--rate=3"] {
            assert_eq!(page(flags), None, "{flags}");
        }
    }
}
