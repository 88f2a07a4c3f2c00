//! `canary judge --input`: outcomes from a file or from standard input.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use canary_judge::Batch;
use tokio::{select, task};

use super::{
    exit_at_the_end, explain_unseen,
    flags::{JudgeFlags, JudgeOutput},
    unless_unread, unusable, write_sentences,
};
use crate::{
    exit::Exit,
    messages::message,
    signals,
    source::lines::{End, Entry, Header, LineError, Reader, TimedEntry},
    trial::Trial,
    view::report::Report,
};

/// The size of the read buffer, in bytes.
const BUFFER: usize = 1 << 17;

pub(super) async fn run(flags: &JudgeFlags, path: &Path) -> io::Result<Exit> {
    let mut signals = signals::listen()?;
    let start = Instant::now();
    let opened = open(path);
    let (name, input) = opened
        .map_err(|error| io::Error::new(error.kind(), format!("cannot open {}: {error}", path.display())))?;
    let lines = Reader::new(input, flags.trial.max_latency, start)
        .with_times(flags.trial.needs_sent())
        .divided_by(&flags.source.strata.by);
    let judged = Arc::new(Mutex::new(Judged { trial: flags.trial.of_all(start), at: start }));
    let most = flags.count.unwrap_or(u64::MAX);
    // a read from a pipe may block forever, so it runs in a thread, and a signal can end the program
    let judging = task::spawn_blocking({
        let judged = Arc::clone(&judged);
        move || judge(lines, most, start, &judged)
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
    let judged = judged.lock().unwrap_or_else(PoisonError::into_inner);
    let (trial, now) = (&judged.trial, judged.at);
    let is_empty = trial.tally().total().requests == 0;
    let exit = match signal {
        Some(signal) => signal,
        None if is_empty => Exit::ReleaseNeverSeen,
        None => exit_at_the_end(trial, now),
    };
    match flags.output {
        JudgeOutput::Json => unless_unread(Report::new(io::stdout(), start).end(trial, None, now))?,
        JudgeOutput::Text if is_empty => {}
        JudgeOutput::Text => unless_unread(write_sentences(trial, None, now))?,
    }
    if is_empty {
        message(format_args!("{name} has no outcomes"));
    } else if exit == Exit::ReleaseNeverSeen {
        explain_unseen(&format!("outcome in {name}"), trial);
    }
    Ok(exit)
}

pub(super) type Input = Box<dyn BufRead + Send>;

/// Opens the input. Returns its name for messages, and a reader.
pub(super) fn open(path: &Path) -> io::Result<(String, Input)> {
    if path == Path::new("-") {
        let input = BufReader::with_capacity(BUFFER, io::stdin());
        return Ok(("standard input".to_owned(), Box::new(input)));
    }
    let input = BufReader::with_capacity(BUFFER, File::open(path)?);
    Ok((path.display().to_string(), Box::new(input)))
}

/// A trial, and the time of the last outcome that it counts.
struct Judged {
    trial: Trial,
    at: Instant,
}

/// Reads until there is a verdict, the input ends, or `most` requests are seen.
fn judge(lines: Reader<Input>, most: u64, start: Instant, judged: &Mutex<Judged>) -> Result<(), LineError> {
    let lock = || judged.lock().unwrap_or_else(PoisonError::into_inner);
    let mut requests = 0;
    for read in lines {
        // the trial is not locked while the next line is read, so that a signal can report it
        let TimedEntry { entry, at } = read?;
        let mut judged = lock();
        judged.at = at.unwrap_or(judged.at);
        let Judged { trial, at: now } = &mut *judged;
        match entry {
            Entry::Header(header) => {
                let Header { settings, coverage, budget } = *header;
                *trial = Trial::new(settings, budget, coverage, start);
            }
            Entry::Outcome(observation) => {
                requests += 1;
                trial.observe(&observation);
            }
            Entry::Interval(stratum, batch) => {
                requests += batch.stable.requests + batch.canary.requests + batch.unattributed;
                trial.observe_batch(stratum.as_deref(), batch);
            }
            Entry::Scraped(interval) => {
                let Batch { stable, canary, .. } = interval.batch();
                requests += stable.requests + canary.requests;
                trial.observe_interval(&interval, |_| true);
            }
            Entry::Health(health) => trial.observe_health(&health),
            Entry::Unsent(number) => trial.skip(number),
            Entry::End(End::Over) => break,
            Entry::End(End::Decided | End::Stopped) => return Ok(()),
        }
        if trial.decided(*now).is_some() {
            return Ok(());
        }
        if requests >= most {
            break;
        }
    }
    lock().trial.end();
    Ok(())
}
