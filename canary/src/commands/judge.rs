//! `canary judge`: sends requests until a verdict is there, and tells it by exit code.

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use tokio::select;

use crate::{
    cli::{JudgeFlags, JudgeOutput},
    exit::Exit,
    judge::Decision,
    release::Release,
    signals::{self, Signals},
    source::probe::{Probe, Target},
    trial::Trial,
    view::report::{Report, every_second},
};

/// Without an answer for this long and `--timeout`, there will be none.
const PATIENCE: Duration = Duration::from_secs(3);
/// How many seconds pass between two messages about what is known so far.
const PROGRESS: u64 = 5;

/// Runs it until there is a verdict, or `--for` or `--count` is over.
///
/// # Errors
/// If the output fails.
pub async fn run(flags: &JudgeFlags) -> io::Result<Exit> {
    let signals = signals::listen()?;
    let probe = Probe::start(flags.probe.target.clone(), flags.probe.pace(Some(flags.time)));
    let start = Instant::now();
    let mut trial = flags.trial.trial(&flags.probe, start)?;
    match flags.output {
        JudgeOutput::Json => {
            let mut report = Report::new(io::stdout(), start);
            let exit = follow(flags, signals, probe, &mut trial, Some(&mut report)).await?;
            report.end(&trial, Instant::now())?;
            explain(exit, &flags.probe.target, &trial);
            Ok(exit)
        }
        JudgeOutput::Text => {
            let exit = follow(flags, signals, probe, &mut trial, None).await?;
            explain(exit, &flags.probe.target, &trial);
            if exit != Exit::NoAnswer {
                write_sentences(&trial)?;
            }
            Ok(exit)
        }
    }
}

/// Follows the trial until it can be told by exit code. Each second it writes a line, if there is a report, or
/// else every few seconds a message.
async fn follow(
    flags: &JudgeFlags,
    mut signals: Signals,
    mut probe: Probe,
    trial: &mut Trial,
    mut report: Option<&mut Report<io::Stdout>>,
) -> io::Result<Exit> {
    let mut seconds = every_second();
    let mut passed = 0;
    loop {
        select! {
            observation = probe.next() => {
                let Some(observation) = observation else { return Ok(exit_without_verdict(trial)) };
                trial.observe(&observation);
                if let Some(report) = &mut report {
                    report.observe(&observation);
                }
                if let Some(exit) = exit_by_verdict(trial) {
                    return Ok(exit);
                }
                let elapsed = trial.tally().began().elapsed();
                if trial.tally().answered() == 0 && elapsed > PATIENCE + flags.probe.timeout {
                    return Ok(Exit::NoAnswer);
                }
            }
            _ = seconds.tick() => {
                passed += 1;
                if let Some(report) = &mut report {
                    report.end_second(trial, Instant::now())?;
                } else if passed % PROGRESS == 0 {
                    eprintln!("canary: after {passed} s: {}", trial.verdict());
                }
            }
            signal = signals.next() => return Ok(signal),
        }
    }
}

/// What the verdict comes to, if it is one. A canary is not promoted while there is nothing to compare it
/// with.
fn exit_by_verdict(trial: &Trial) -> Option<Exit> {
    match trial.verdict().decision {
        Decision::Promote if never_seen(trial, Release::Stable) => None,
        Decision::Promote => Some(Exit::Done),
        Decision::RollBack { .. } => Some(Exit::RollBack),
        Decision::NotYet { .. } => None,
    }
}

fn exit_without_verdict(trial: &Trial) -> Exit {
    if trial.tally().answered() == 0 {
        Exit::NoAnswer
    } else if Release::BOTH.into_iter().any(|release| never_seen(trial, release)) {
        Exit::ReleaseNeverSeen
    } else {
        Exit::NotYet
    }
}

fn never_seen(trial: &Trial, release: Release) -> bool {
    trial.tally().of_release(release).requests == 0
}

/// Tells why there is no verdict, where the verdict itself does not.
fn explain(exit: Exit, target: &Target, trial: &Trial) {
    match exit {
        Exit::NoAnswer => {
            let why = trial.tally().last_trouble().unwrap_or("no request was sent");
            eprintln!("canary: nobody answers at {target}: {why}");
        }
        Exit::ReleaseNeverSeen => {
            let unseen = Release::BOTH.into_iter().filter(|release| never_seen(trial, *release));
            let unseen: Vec<_> = unseen.map(|release| release.to_string()).collect();
            eprintln!("canary: no answer from {target} named the release {}", unseen.join(" or "));
        }
        _ => {}
    }
}

fn write_sentences(trial: &Trial) -> io::Result<()> {
    writeln!(io::stdout(), "{}", trial.verdict())?;
    if let Some(price) = trial.price(Instant::now()) {
        writeln!(io::stdout(), "{price}")?;
    }
    Ok(())
}
