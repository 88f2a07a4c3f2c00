//! `canary judge`: samples until a verdict is there, and tells it by exit code.

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use tokio::select;

use crate::{
    config::{Judge, JudgeOutput},
    exit::Exit,
    judge::Decision,
    report::Report,
    sample::Sampling,
    signals::Signals,
    tally::Source,
    trial::Trial,
    watch::every_second,
};

/// Nobody answers at an address where nobody has for this long and `--timeout`.
const PATIENCE: Duration = Duration::from_secs(3);
/// How many seconds pass between two messages about what is known so far.
const PROGRESS: u64 = 5;

/// Runs it until there is a verdict, or `--for` or `--count` is over.
///
/// # Errors
/// If the output fails.
pub async fn run(judge: &Judge) -> io::Result<Exit> {
    let target = &judge.sampling.target;
    let mut signals = Signals::new()?;
    let mut sampling = Sampling::start(target.clone(), judge.sampling.pace(Some(judge.time)));
    let start = Instant::now();
    let mut trial = judge.judging.trial(&judge.sampling, start)?;
    let json = judge.output == JudgeOutput::Json;
    let mut report = Report::new(io::stdout(), start);
    let mut seconds = every_second();
    let mut passed = 0;
    let exit = loop {
        select! {
            observation = sampling.next() => {
                let Some(observation) = observation else { break at_the_end(&trial) };
                trial.observe(&observation);
                report.observe(&observation);
                if let Some(exit) = decided(&trial) {
                    break exit;
                }
                if trial.tally().answered() == 0 && start.elapsed() > PATIENCE + judge.sampling.timeout {
                    break Exit::NobodyAnswers;
                }
            }
            _ = seconds.tick() => {
                passed += 1;
                if json {
                    report.end_second(&trial, Instant::now())?;
                } else if passed % PROGRESS == 0 {
                    eprintln!("canary: after {passed} s: {}", trial.verdict());
                }
            }
            signal = signals.next() => break signal,
        }
    };
    if json {
        report.end(&trial, Instant::now())?;
    }
    match exit {
        Exit::NobodyAnswers => {
            let why = trial.tally().last_trouble().unwrap_or("no request was sent");
            eprintln!("canary: nobody answers at {target}: {why}");
            return Ok(exit);
        }
        Exit::ReleaseNeverSeen => {
            let unseen =
                [Source::Stable, Source::Canary].into_iter().filter(|it| trial.tally().of(it).total() == 0);
            let unseen: Vec<_> = unseen.map(|release| release.to_string()).collect();
            eprintln!("canary: no answer from {target} named the release {}", unseen.join(" or "));
        }
        _ => {}
    }
    if !json {
        writeln!(io::stdout(), "{}", trial.verdict())?;
        if let Some(price) = trial.price(Instant::now()) {
            writeln!(io::stdout(), "{price}")?;
        }
    }
    Ok(exit)
}

fn never_seen(trial: &Trial, release: &Source) -> bool {
    trial.tally().of(release).total() == 0
}

/// What the verdict comes to, if it is one. A canary is not promoted while there is nothing to compare it
/// with.
fn decided(trial: &Trial) -> Option<Exit> {
    match trial.verdict().decision {
        Decision::Promote if never_seen(trial, &Source::Stable) => None,
        Decision::Promote => Some(Exit::Done),
        Decision::RollBack { .. } => Some(Exit::RollBack),
        Decision::NotYet { .. } => None,
    }
}

fn at_the_end(trial: &Trial) -> Exit {
    if trial.tally().answered() == 0 {
        Exit::NobodyAnswers
    } else if never_seen(trial, &Source::Stable) || never_seen(trial, &Source::Canary) {
        Exit::ReleaseNeverSeen
    } else {
        Exit::NotYet
    }
}
