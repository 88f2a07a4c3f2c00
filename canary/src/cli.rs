//! The command line: the commands, and its errors. Each command has its flags in its own room, `commands/NAME/flags.rs`;
//! so has each source, in `source/NAME/flags.rs`.

use std::{borrow::Cow, env, ffi::OsString, path::Path};

use clap::{
    CommandFactory, FromArgMatches, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::{
    commands::{judge, rehearse, serve, watch},
    foreign,
    source::{pods, shown},
};

/// Watch a canary rollout, judge it, and rehearse it without a cluster
#[derive(Clone, Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Show which pods answer: a live picture in a terminal, otherwise a line of JSON a second
    #[command(after_help = watch::flags::HELP)]
    Watch(watch::flags::WatchFlags),
    /// Decide whether to promote the canary or to roll it back; the exit code is the verdict
    #[command(after_help = judge::flags::HELP)]
    Judge(judge::flags::JudgeFlags),
    /// Keep watching, and serve the verdict: a page for the browser, JSON for scripts, Argo Rollouts and Flagger
    #[command(after_help = serve::flags::HELP)]
    Serve(serve::flags::ServeFlags),
    /// Go through the whole walkthrough on this machine, with the pods' real servers and without a cluster
    #[command(after_help = rehearse::flags::HELP)]
    Rehearse(rehearse::flags::RehearseFlags),
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
        let parsed = Self::try_parse(arguments).map_err(|error| of_negative_value(error, arguments));
        parsed.map_err(|error| bounded(without_secrets(with_hint_at_equals_sign(error, arguments))))
    }

    fn try_parse(arguments: &[OsString]) -> Result<Self, clap::Error> {
        let mut command = command_of(arguments.first());
        let matches = command.try_get_matches_from_mut(arguments)?;
        if let Some((name, flags)) = matches.subcommand()
            && let Some(command) = command.find_subcommand_mut(name)
            && let Some(conflict) = pods::conflict(command, flags)
        {
            return Err(command.error(ErrorKind::ArgumentConflict, conflict));
        }
        let Self { command } = Self::from_arg_matches(&matches)?;
        let command = match (command, matches.subcommand()) {
            (Command::Judge(flags), Some((_, given))) => Command::Judge(flags.with_given(given)),
            (command, _) => command,
        };
        Ok(Self { command })
    }
}

/// The name under which kubectl finds the program: `kubectl canary`.
const PLUGIN: &str = "kubectl-canary";

/// The command line of the program with this name.
fn command_of(program: Option<&OsString>) -> clap::Command {
    let command = Cli::command();
    if program.and_then(|path| Path::new(path).file_stem()).is_none_or(|name| name != PLUGIN) {
        return command;
    }
    let commands: Vec<_> = command.get_subcommands().map(|one| one.get_name().to_owned()).collect();
    let command = command.bin_name("kubectl canary").after_help(PLUGIN_HELP);
    commands.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, |one| {
            let help = one
                .get_after_help()
                .map(|help| help.to_string().replace("\n  canary ", "\n  kubectl canary "));
            one.after_help(help.unwrap_or_default())
        })
    })
}

/// What `kubectl canary` can do.
const PLUGIN_HELP: &str = "\
Examples:
  kubectl canary judge deployment/shop deployment/shop-canary     promote it, or roll it back?
  kubectl canary watch service/shop --canary track=canary         a live picture
  kubectl canary judge rollout/shop -n shop --context staging     of Argo Rollouts

It asks the pods through the API server with your credentials, and needs nothing in the cluster.";

/// The error about the value, if a negative number after a flag was taken for another flag: `--rate -1`.
fn of_negative_value(error: clap::Error, arguments: &[OsString]) -> clap::Error {
    if error.kind() != ErrorKind::UnknownArgument {
        return error;
    }
    let mut joined: Vec<OsString> = Vec::with_capacity(arguments.len());
    for argument in arguments {
        match (joined.last_mut(), argument.to_str()) {
            (Some(flag), Some(number)) if is_flag(flag) && is_negative(number) => {
                flag.push("=");
                flag.push(number);
            }
            _ => joined.push(argument.clone()),
        }
    }
    let of_value = Cli::try_parse(&joined).err().filter(|error| error.kind() == ErrorKind::ValueValidation);
    of_value.unwrap_or(error)
}

fn is_flag(argument: &OsString) -> bool {
    argument.to_str().is_some_and(|text| text.starts_with("--") && text.len() > 2 && !text.contains('='))
}

fn is_negative(argument: &str) -> bool {
    argument
        .strip_prefix('-')
        .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit() || first == '.'))
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

/// The same error, with URLs and paths as they may be shown. An invalid URL may have any form, so all that may be one
/// counts.
fn without_secrets(mut error: clap::Error) -> clap::Error {
    let may_have_secrets =
        |flag: &str| flag.contains("URL") || flag == "[CANARY]" || flag.starts_with("--path ");
    let is_of_url = matches!(error.get(ContextKind::InvalidArg), Some(ContextValue::String(flag)) if may_have_secrets(flag));
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

/// The same error, without very long words.
fn bounded(error: clap::Error) -> clap::Error {
    if !error.use_stderr() {
        return error; // help
    }
    let text = error.to_string();
    match foreign::with_bounded_words(&text, foreign::LONGEST_WORD) {
        Cow::Borrowed(_) => error,
        Cow::Owned(text) => clap::Error::raw(error.kind(), text.strip_prefix("error: ").unwrap_or(&text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_declared_without_contradiction() {
        Cli::command().debug_assert();
    }

    fn help_of(command: &str) -> String {
        let arguments = ["canary", command, "--help"].map(OsString::from);
        Cli::parse_arguments(&arguments).expect_err("help").to_string()
    }

    #[test]
    fn no_line_of_help_is_longer_than_100_columns() {
        for command in ["watch", "judge", "serve", "rehearse"] {
            let help = help_of(command);
            assert!(help.contains("\nExamples:\n"), "{help}");
            let long: Vec<_> = help.lines().filter(|line| line.chars().count() > 100).collect();
            assert!(long.is_empty(), "{command}: {long:#?}");
        }
    }

    #[test]
    fn each_flag_stands_under_its_own_heading_and_the_usual_ones_come_first() {
        let headings = |command: &str| -> Vec<String> {
            let is_heading = |line: &&str| line.ends_with(':') && !line.starts_with(' ');
            help_of(command).lines().filter(is_heading).map(str::to_owned).collect()
        };
        let last = ["Service:", "Prometheus:", "Kubernetes:", "Examples:", "Exit codes:"];
        for (command, first) in [
            ("watch", &["Requests:", "Judge:", "Output:"][..]),
            ("judge", &["Requests:", "Judge:", "Output:"]),
            ("serve", &["Server:", "Judge:", "Output:", "Requests:"]),
        ] {
            let wanted = [&["Arguments:", "Options:"], first, &last].concat();
            assert_eq!(headings(command), wanted, "{command}");
        }
        let help = help_of("judge");
        let (_, prometheus) = help.split_once("\nPrometheus:\n").expect("its heading");
        for flag in ["--for", "--alpha", "--output", "--count", "--cacert", "--resolve"] {
            assert!(!prometheus.contains(&format!("\n      {flag} ")), "{flag}: {prometheus}");
        }
    }

    #[test]
    fn serve_has_no_limit_of_requests() {
        let arguments = ["canary", "serve", "--count", "3"].map(OsString::from);
        let error = Cli::parse_arguments(&arguments).expect_err("an unknown flag");
        assert_eq!(error.kind(), ErrorKind::UnknownArgument);
        assert!(!help_of("watch").contains("--input") && help_of("judge").contains("--input"));
    }

    /// All flags of requests and their values.
    const OF_REQUESTS: [&[&str]; 11] = [
        &["http://127.0.0.1:1"],
        &["--rate=5"],
        &["--timeout=5s"],
        &["--header=a: b"],
        &["--release-header=a"],
        &["--pod-header=a"],
        &["--release-from=a"],
        &["--pod-from=a"],
        &["--canary-value=a"],
        &["--stable-pods=a", "--canary-pods=b"],
        &["--resolve=a:1:127.0.0.1"],
    ];

    #[test]
    fn flags_of_one_source_are_refused_with_another() {
        let refused = |other: &[&str], flags: &[&str]| {
            let arguments = [&["canary", "judge"], other, flags].concat();
            let arguments: Vec<_> = arguments.into_iter().map(OsString::from).collect();
            let error = Cli::parse_arguments(&arguments).expect_err("a conflict");
            assert_eq!(error.kind(), ErrorKind::ArgumentConflict, "{arguments:?}: {error}");
            let text = error.to_string();
            let names: Vec<_> = flags.iter().map(|flag| flag.split('=').next().unwrap_or(flag)).collect();
            assert!(names.iter().any(|name| text.contains(name) || text.contains("[URL|STABLE]")), "{text}");
            assert_eq!(text.matches("cannot be used with").count(), 1, "{text}");
        };
        let (prometheus, input) = (&["--prometheus=http://127.0.0.1:1"][..], &["--input=-"][..]);
        for flags in OF_REQUESTS {
            refused(prometheus, flags);
            refused(input, flags);
        }
        for flags in [&["--count=3"][..], &["--max-latency=1s"], input] {
            refused(prometheus, flags);
        }
        for flags in
            [&["--cacert=a"][..], &["--insecure"], &["--for=1m"], &["--record=a"], &["--interval=1s"]]
        {
            refused(input, flags);
        }
        let with_tls =
            ["canary", "judge", "--prometheus=https://127.0.0.1:1", "--cacert=a"].map(OsString::from);
        Cli::parse_arguments(&with_tls).expect("TLS is for each source");
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
            for flag in ["--alpha", "--max-failure-rate", "--share", "--slo"] {
                let arguments = ["canary", "judge", flag, text].map(OsString::from);
                let error = Cli::parse_arguments(&arguments).expect_err(text).to_string();
                assert!(error.contains(told), "{flag}: {error}");
            }
        }
    }

    /// For each flag with a number: values that it refuses, and what the message says it wants.
    const NUMBERS: [(&str, &[&str], &str); 22] = [
        ("--rate", &["-1", "0", "2001", "x"], "want a number from 0.01 to 2000"),
        ("--count", &["-1", "0", "1.5", "x"], "want a whole number of at least 1"),
        ("--for", &["-1", "-1s", "0", "x"], "want a time of more than 0, such as 30s"),
        ("--timeout", &["-1", "0", "x"], "want a time of more than 0"),
        ("--interval", &["-1", "0", "x"], "want a time of more than 0"),
        ("--max-latency", &["-1", "0", "x"], "want a time of more than 0"),
        ("--warm-up", &["-1", "0", "5 parsecs"], "want a time of more than 0"),
        ("--soak", &["-1", "0", "x"], "want a time of more than 0"),
        ("--episodes", &["-1", "0", "x"], "want a time of more than 0"),
        ("--episodes", &["50ms"], "at least 100ms"),
        ("--alpha", &["-1", "-5%", "0", "1", "x"], "between 0 and 1"),
        ("--max-failure-rate", &["-1", "0", "100%", "x"], "between 0 and 1"),
        ("--share", &["-1", "0", "1", "x"], "between 0 and 1"),
        ("--slo", &["-1", "0", "1", "x"], "between 0 and 1"),
        ("--slower-by", &["-1", "20", "x"], "0 "),
        ("--max-ratio", &["-1", "0", "0.9", "x"], "of at least 1"),
        ("--min-answers", &["-1", "0.5", "x"], "want a whole number of at least 0"),
        ("--traffic", &["-1", "0"], "positive number of requests a second"),
        ("--max-burn", &["-1", "0"], "positive number"),
        ("--fault-percent", &["-1", "101", "x"], "from 0 to 100"),
        ("--fault-delay-ms", &["-1", "60001", "x"], "from 0 to 60000"),
        ("--mystery", &["-1", "4294967296", "x"], "want a whole number from 0 to 4294967295"),
    ];

    #[test]
    fn a_number_that_is_refused_is_named_with_its_flag_and_with_what_is_allowed() {
        let commands = Cli::command();
        let mut checked = 0;
        for command in commands.get_subcommands() {
            for flag in command.get_arguments() {
                let is_number =
                    |name: &clap::builder::Str| ["NUMBER", "TIME", "SHARE", "SEED"].contains(&name.as_str());
                if !flag.get_value_names().is_some_and(|names| names.iter().any(is_number)) {
                    continue;
                }
                let flag = format!("--{}", flag.get_long().expect("a long name"));
                let rows: Vec<_> = NUMBERS.iter().filter(|(of, ..)| *of == flag).collect();
                assert!(!rows.is_empty(), "{flag} of {} is in no row", command.get_name());
                for (value, wanted) in
                    rows.iter().flat_map(|(_, bad, wanted)| bad.iter().map(move |it| (it, wanted)))
                {
                    let joined = format!("{flag}={value}");
                    for arguments in [&[flag.as_str(), value][..], &[&joined]] {
                        let command = ["canary", command.get_name()];
                        let arguments = command.iter().chain(arguments).map(OsString::from);
                        let error = Cli::parse_arguments(&arguments.collect::<Vec<_>>()).expect_err(&joined);
                        let text = error.to_string();
                        assert_eq!(error.kind(), ErrorKind::ValueValidation, "{joined}: {text}");
                        assert!(
                            text.contains(&format!("invalid value '{value}' for '{flag} ")),
                            "{joined}: {text}"
                        );
                        assert!(text.contains(wanted), "{joined}: {text}");
                    }
                    checked += 1;
                }
            }
        }
        assert!(checked >= 2 * NUMBERS.len(), "{checked}");
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
}
