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
    output::output,
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
        let (judged, mut ignored) = (Arc::clone(&judged), ignored(&name, &flags.trial_flags_given));
        move || judge(lines, most, start, &mut ignored, &judged)
    });
    let signal = select! {
        judged = judging => match judged.map_err(io::Error::other)? {
            Ok(cut) => {
                cut.map(|number| left_out(&name, number)).into_iter().for_each(message);
                None
            }
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
        JudgeOutput::Json => unless_unread(Report::new(output(), start).end(trial, None, now))?,
        JudgeOutput::Text if is_empty => {}
        JudgeOutput::Text => unless_unread(write_sentences(trial, None, now))?,
    }
    if is_empty {
        message(format_args!("{name} has no outcomes"));
    } else if exit == Exit::ReleaseNeverSeen {
        explain_unseen(&format!("no outcome in {name} named the release"), trial);
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

/// The message that the last line of a record is left out.
pub(super) fn left_out(name: &str, number: u64) -> String {
    format!("{name}, line {number}: the record ends within this line, which is left out")
}

/// The message that these flags are ignored, because the record has settings of its own. `None` without any.
pub(super) fn ignored(name: &str, flags: &[String]) -> Option<String> {
    let list = || {
        format!(
            "{name} is a record with settings of its own, so these flags are ignored: {}",
            flags.join(", ")
        )
    };
    (!flags.is_empty()).then(list)
}

/// A trial, and the time of the last outcome that it counts.
struct Judged {
    trial: Trial,
    at: Instant,
}

/// Reads until there is a verdict, the input ends, or `most` requests are seen. Writes the message `ignored` if the input
/// has settings. Returns the number of the last line if it was left out.
fn judge(
    mut lines: Reader<Input>,
    most: u64,
    start: Instant,
    ignored: &mut Option<String>,
    judged: &Mutex<Judged>,
) -> Result<Option<u64>, LineError> {
    let lock = || judged.lock().unwrap_or_else(PoisonError::into_inner);
    let mut requests = 0;
    for read in lines.by_ref() {
        // the trial is not locked while the next line is read, so that a signal can report it
        let TimedEntry { entry, at } = read?;
        let mut judged = lock();
        judged.at = at.unwrap_or(judged.at);
        let Judged { trial, at: now } = &mut *judged;
        match entry {
            Entry::Header(header) => {
                ignored.take().into_iter().for_each(message);
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
            Entry::End(End::Decided | End::Stopped) => return Ok(None),
        }
        if trial.decided(*now).is_some() {
            return Ok(None);
        }
        if requests >= most {
            break;
        }
    }
    lock().trial.end();
    Ok(lines.cut())
}
