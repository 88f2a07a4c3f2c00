//! The forecast of the time to a promotion. It comes early, so that the user can still change `--for`,
//! `--count` or `--rate`.

use std::time::Duration;

use super::flags::JudgeFlags;
use canary_judge::{Counts, Verdict, count};

/// The forecast as a sentence, after the requests `seen` in the time `elapsed`, at `rate` requests a second.
pub(super) fn forecast(
    verdict: &Verdict,
    flags: &JudgeFlags,
    rate: f64,
    seen: Counts,
    elapsed: Duration,
) -> String {
    if verdict.stable.counts.requests == 0 {
        let more = count(verdict.more_stable_answers);
        return format!(
            "a promotion takes {more} answers of stable to compare with, but stable has not answered yet"
        );
    }
    let Some(requests) = verdict.more_requests else {
        let limit = flags.trial.max_failure_rate.get();
        return format!(
            "a promotion by --max-failure-rate {limit} takes more than 100,000 more answers of the canary"
        );
    };
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let time = Duration::try_from_secs_f64((requests as f64 / rate).ceil()).unwrap_or(Duration::MAX);
    format!(
        "a promotion takes about {} more requests if the canary fails none of them: {} at {} a second. {}",
        count(requests),
        humantime::format_duration(time),
        (rate * 100.0).round() / 100.0,
        allowance(flags, requests, time, seen, elapsed),
    )
}

/// Whether `--for` and `--count` allow this number of further requests, in this time.
fn allowance(flags: &JudgeFlags, requests: u64, time: Duration, seen: Counts, elapsed: Duration) -> String {
    let limit_of_time = format!("--for {}", humantime::format_duration(flags.time));
    let limits = [
        Some((limit_of_time, elapsed.saturating_add(time) <= flags.time)),
        flags.count.map(|most| (format!("--count {most}"), seen.requests + requests <= most)),
    ];
    let (allow, forbid): (Vec<_>, Vec<_>) = limits.into_iter().flatten().partition(|(_, allows)| *allows);
    let named = |limits: Vec<(String, bool)>, one: &str, several: &str| {
        let names: Vec<_> = limits.into_iter().map(|(name, _)| name).collect();
        format!("{} {}", names.join(" and "), if names.len() == 1 { one } else { several })
    };
    if forbid.is_empty() {
        named(allow, "allows it", "allow it")
    } else {
        named(forbid, "ends before that", "end before that")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};
    use canary_judge::Batch;

    /// The forecast after 8 seconds with this number of answers of each release, all successful.
    fn forecast_after(canary: u64, stable: u64, arguments: &[&str]) -> String {
        let arguments = [&["canary", "judge"], arguments].concat();
        let Command::Judge(flags) = Cli::parse_from(arguments).command else { unreachable!("it is judge") };
        let counts = |requests| Counts { requests, failures: 0, slow: 0 };
        let mut trial = flags.trial.of_all(Instant::now());
        trial.observe_batch(None, Batch { stable: counts(stable), canary: counts(canary), unattributed: 0 });
        forecast(
            &trial.verdict(Instant::now()),
            &flags,
            flags.source.probe.rate,
            trial.tally().total(),
            Duration::from_secs(8),
        )
    }

    #[test]
    fn the_forecast_has_requests_and_time_and_whether_the_limits_allow_them() {
        // a limit of 1 % takes 345 successes of the canary; it has 20, and it gets one request in four
        let takes = "a promotion takes about 1,300 more requests if the canary fails none of them";
        for (arguments, rest) in [
            (&[][..], ": 2m 10s at 10 a second. --for 5m allows it"),
            (&["--count=1380"], ": 2m 10s at 10 a second. --for 5m and --count 1380 allow it"),
            (&["--count=1379"], ": 2m 10s at 10 a second. --count 1379 ends before that"),
            (&["--for=138s"], ": 2m 10s at 10 a second. --for 2m 18s allows it"),
            (&["--for=137s"], ": 2m 10s at 10 a second. --for 2m 17s ends before that"),
            (&["--for=1m", "--count=99"], ": 2m 10s at 10 a second. --for 1m and --count 99 end before that"),
            (&["--for=1m", "--rate=100"], ": 13s at 100 a second. --for 1m allows it"),
        ] {
            assert_eq!(forecast_after(20, 60, arguments), format!("{takes}{rest}"), "{arguments:?}");
        }
    }

    #[test]
    fn the_forecast_names_the_obstacle_if_there_is_no_estimate() {
        assert_eq!(
            forecast_after(20, 60, &["--max-failure-rate=0.000001"]),
            "a promotion by --max-failure-rate 0.000001 takes more than 100,000 more answers of the canary"
        );
        assert_eq!(
            forecast_after(20, 0, &[]),
            "a promotion takes 100 answers of stable to compare with, but stable has not answered yet"
        );
    }
}
