//! `canary judge --input`: outcomes from a file or from standard input.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use tokio::{select, task};

use super::{exit_at_the_end, explain_unseen, unless_unread, unusable, write_sentences};
use crate::{
    cli::{JudgeFlags, JudgeOutput},
    exit::Exit,
    messages::message,
    signals,
    source::lines::{Line, LineError, Lines},
    trial::Trial,
    view::report::Report,
};

/// The size of the read buffer, in bytes.
const BUFFER: usize = 1 << 17;

pub(super) async fn run(flags: &JudgeFlags, path: &Path) -> io::Result<Exit> {
    let mut signals = signals::listen()?;
    let start = Instant::now();
    let (name, input) = match open(path) {
        Ok(input) => input,
        Err(error) => return Ok(unusable(format!("cannot open {}: {error}", path.display()))),
    };
    let lines = Lines::new(input, flags.trial.max_latency);
    let trial = Arc::new(Mutex::new(flags.trial.of_all(start)));
    let most = flags.probe.count.unwrap_or(u64::MAX);
    // a read from a pipe may block forever, so it runs in a thread, and a signal can end the program
    let judging = task::spawn_blocking({
        let trial = Arc::clone(&trial);
        move || judge(lines, most, &trial)
    });
    let signal = select! {
        judged = judging => match judged.map_err(io::Error::other)? {
            Ok(()) => None,
            Err(LineError::Unreadable(error)) => {
                return Err(io::Error::new(error.kind(), format!("cannot read {name}: {error}")));
            }
            Err(bad) => return Ok(unusable(format!("{name}, {bad}"))),
        },
        signal = signals.next() => Some(signal),
    };
    let trial = trial.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    let is_empty = trial.tally().total().requests == 0;
    let exit = match signal {
        Some(signal) => signal,
        None if is_empty => Exit::ReleaseNeverSeen,
        None => exit_at_the_end(&trial, now),
    };
    match flags.output {
        JudgeOutput::Json => unless_unread(Report::new(io::stdout(), start).end(&trial, now))?,
        JudgeOutput::Text if is_empty => {}
        JudgeOutput::Text => unless_unread(write_sentences(&trial, now))?,
    }
    if is_empty {
        message(format_args!("{name} has no outcomes"));
    } else if exit == Exit::ReleaseNeverSeen {
        explain_unseen(&format!("outcome in {name}"), &trial);
    }
    Ok(exit)
}

type Input = Box<dyn BufRead + Send>;

/// Opens the input. Returns its name for messages, and a reader.
fn open(path: &Path) -> io::Result<(String, Input)> {
    if path == Path::new("-") {
        let input = BufReader::with_capacity(BUFFER, io::stdin());
        return Ok(("standard input".to_owned(), Box::new(input)));
    }
    let input = BufReader::with_capacity(BUFFER, File::open(path)?);
    Ok((path.display().to_string(), Box::new(input)))
}

/// Reads until there is a verdict, the input ends, or `most` requests are seen.
fn judge(lines: Lines<Input>, most: u64, trial: &Mutex<Trial>) -> Result<(), LineError> {
    let trial = || trial.lock().unwrap_or_else(PoisonError::into_inner);
    let mut requests = 0;
    for line in lines {
        // the trial is not locked while the next line is read, so that a signal can report it
        let line = line?;
        let mut trial = trial();
        match line {
            Line::Outcome(observation) => {
                requests += 1;
                trial.observe(&observation);
            }
            Line::Interval(batch) => {
                requests += batch.stable.requests + batch.canary.requests + batch.unattributed;
                trial.observe_batch(batch);
            }
        }
        if trial.decided(Instant::now()).is_some() {
            return Ok(());
        }
        if requests >= most {
            break;
        }
    }
    trial().end();
    Ok(())
}
