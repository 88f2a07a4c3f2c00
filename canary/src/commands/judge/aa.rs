//! `canary judge --aa`: whether the traffic is fit to be judged, by two halves of stable's pods.

use std::{
    io::{self, Write},
    path::Path,
    time::{Duration, Instant},
};

use tokio::{select, task, time::interval_at};

use super::{
    flags::{JudgeFlags, JudgeOutput},
    input, open, unless_unread, unusable,
};
use crate::{
    exit::Exit,
    messages::message,
    output::output,
    signals,
    source::{
        Response, Seen, Source,
        lines::{Entry, LineError, Reader},
        shortage::shortage_in,
    },
    trial::{Fitness, Halves},
};

/// The time between two messages with the result so far.
const PROGRESS: Duration = Duration::from_secs(30);

pub(super) async fn run(flags: &JudgeFlags) -> io::Result<Exit> {
    let halves = Halves::new(flags.trial.settings()).map_err(io::Error::other)?;
    match &flags.lines.input {
        Some(path) => of_input(flags, path, halves).await,
        None => live(flags, halves).await,
    }
}

async fn live(flags: &JudgeFlags, mut halves: Halves) -> io::Result<Exit> {
    let mut signals = signals::listen()?;
    let mut opened = match open(flags, &mut signals).await {
        Ok(opened) => opened,
        Err(exit) => return Ok(exit),
    };
    message(format_args!("comparing two halves of stable's pods: {}", opened.how));
    opened.source.pause(false);
    let start = Instant::now();
    let mut progress = interval_at((start + PROGRESS).into(), PROGRESS);
    let (mut answered, mut trouble, mut unsent) = (false, None, None);
    loop {
        select! {
            seen = opened.source.next() => {
                let Some(seen) = seen else { break };
                halves.see(&seen);
                answered |= matches!(&seen, Seen::Interval(_)) || opened.source.has_answered();
                if let Seen::Request(observation) = &seen {
                    answered |= matches!(observation.response, Response::Answer(_));
                    unsent = match &observation.response {
                        Response::Unsent(why) => shortage_in(why),
                        _ => None,
                    };
                }
                if let Seen::Trouble(text) = seen {
                    message(&text);
                    trouble = Some(text);
                }
                let is_over = opened.patience.is_some_and(|patience| start.elapsed() > patience);
                if halves.differ() || (!answered && is_over) {
                    break;
                }
            }
            _ = progress.tick() => message(format_args!("so far: {}", halves.report())),
            signal = signals.next() => {
                write(flags, &halves)?;
                return Ok(signal);
            }
        }
    }
    if !answered {
        message(opened.no_answer(trouble.as_deref().or(unsent.as_deref())));
        return Ok(if unsent.is_some() { Exit::Failed } else { Exit::NoAnswer });
    }
    if let Some(asked) = opened.source.asked() {
        message(asked.text);
    }
    end(flags, halves)
}

async fn of_input(flags: &JudgeFlags, path: &Path, halves: Halves) -> io::Result<Exit> {
    let mut signals = signals::listen()?;
    let (name, input) = input::open(path)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot open {}: {error}", path.display())))?;
    let lines =
        Reader::new(input, flags.trial.max_latency, Instant::now()).divided_by(&flags.source.strata.by);
    let most = flags.count.unwrap_or(u64::MAX);
    // a read from a pipe may block forever, so it runs in a thread, and a signal can end the program
    // the other flags decide how the halves are compared
    let latency: Vec<_> =
        flags.trial_flags_given.iter().filter(|flag| *flag == "--max-latency").cloned().collect();
    let mut ignored = input::ignored(&name, &latency);
    let reading = task::spawn_blocking(move || read(lines, most, &mut ignored, halves));
    let read = select! {
        read = reading => read.map_err(io::Error::other)?,
        signal = signals.next() => return Ok(signal),
    };
    match read {
        Ok((halves, cut)) => {
            cut.map(|number| input::left_out(&name, number)).into_iter().for_each(message);
            end(flags, halves)
        }
        Err(LineError::Unreadable(error)) => {
            Err(io::Error::new(error.kind(), format!("cannot read {name}: {error}")))
        }
        Err(bad) => Ok(unusable(format!("{name}, {bad}"))),
    }
}

/// Reads until the halves differ, the input ends, or `most` requests are seen. Writes the message `ignored` if the input
/// has settings. Returns the number of the last line, too, if it was left out.
fn read(
    mut lines: Reader<input::Input>,
    most: u64,
    ignored: &mut Option<String>,
    mut halves: Halves,
) -> Result<(Halves, Option<u64>), LineError> {
    let mut requests = 0;
    for line in lines.by_ref() {
        match line?.entry {
            Entry::Outcome(observation) => {
                requests += 1;
                halves.observe(&observation);
            }
            Entry::Interval(_, batch) => {
                requests += batch.stable.requests + batch.canary.requests;
                halves.observe_unnamed(batch.stable.requests);
            }
            Entry::Scraped(interval) => {
                let batch = interval.batch();
                requests += batch.stable.requests + batch.canary.requests;
                halves.observe_interval(&interval);
            }
            Entry::Unsent(number) => halves.skip(number),
            Entry::Header(_) => ignored.take().into_iter().for_each(message),
            Entry::Health(_) => {}
            Entry::End(_) => break,
        }
        if halves.differ() || requests >= most {
            break;
        }
    }
    Ok((halves, lines.cut()))
}

fn end(flags: &JudgeFlags, mut halves: Halves) -> io::Result<Exit> {
    halves.end();
    write(flags, &halves)?;
    Ok(match halves.fitness() {
        Fitness::Fit => Exit::Done,
        Fitness::NotFit => Exit::RollBack,
        Fitness::NotYet => Exit::NotYet,
        Fitness::NoHalves => {
            message("--aa needs two pods of stable, and the name of the pod of each answer");
            Exit::ReleaseNeverSeen
        }
    })
}

fn write(flags: &JudgeFlags, halves: &Halves) -> io::Result<()> {
    let report = halves.report();
    let text = match flags.output {
        JudgeOutput::Text => report.to_string(),
        JudgeOutput::Json => serde_json::to_string(&report)?,
    };
    unless_unread(writeln!(output(), "{text}"))
}
