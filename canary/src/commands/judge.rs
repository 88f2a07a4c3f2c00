//! `canary judge`: collects outcomes until there is a verdict, which is the exit code.

mod aa;
pub mod flags;
mod forecast;
mod input;

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use tokio::{
    select,
    time::{MissedTickBehavior, interval},
};

use self::{
    flags::{JudgeFlags, JudgeOutput},
    forecast::forecast,
};
use super::{no_record, unusable, without_answer};
use crate::{
    exit::Exit,
    messages::message,
    output::{Output, output},
    signals::{self, Signals},
    source::{Asked, Seen, Source, lines::End, opened::Opened},
    trial::{CountedOutlook, Record, Trial},
    view::{
        progress::{Progress, Until},
        report::{Report, every_second},
    },
};
use canary_judge::{Counts, Decision, Release, Verdict};

/// The time between two drawings of the progress in a terminal.
const REDRAWN_EVERY: Duration = Duration::from_millis(250);
/// Without it, the seconds between two messages with the verdict so far.
const PROGRESS: u64 = 5;
/// The number of answers of the canary after which its share is known well enough for a forecast.
const ANSWERS_UNTIL_FORECAST: u64 = 20;

/// Runs until there is a verdict, or until the end of `--for`, `--count` or `--input`.
///
/// # Errors
/// If the output or the input fails.
pub async fn run(flags: &JudgeFlags) -> io::Result<Exit> {
    if flags.aa {
        return aa::run(flags).await;
    }
    match &flags.lines.input {
        Some(path) => input::run(flags, path).await,
        None => live(flags).await,
    }
}

async fn live(flags: &JudgeFlags) -> io::Result<Exit> {
    let mut signals = signals::listen()?;
    let mut opened = match open(flags, &mut signals).await {
        Ok(opened) => opened,
        Err(exit) => return Ok(exit),
    };
    let mut trial = flags.trial.of(opened.rate, Instant::now())?.with_given_share(opened.share);
    let record = flags.record.as_deref().map(|path| Record::new(path, u64::MAX, &trial)).transpose();
    let record = match record {
        Ok(record) => record,
        Err(error) => return Ok(no_record(&error)),
    };
    opened.source.pause(false);
    match opened.rate {
        Some(rate) => message(trial.outlook(rate, Some(flags.time_at(rate)))),
        None => message(format_args!("asking {}", opened.how)), // the first counts may come late
    }
    let exit = judge(flags, signals, &mut opened.source, &mut trial, record, opened.patience).await?;
    let exit = match exit {
        Exit::NoAnswer if opened.source.has_answered() => Exit::ReleaseNeverSeen,
        exit => exit,
    };
    match exit {
        Exit::NoAnswer => {
            message(opened.no_answer(trial.tally().last_trouble()));
            return Ok(without_answer(trial.tally()));
        }
        Exit::ReleaseNeverSeen => {
            explain_unseen(&opened.unseen, &trial);
            if let Some(hint) = opened.source.hint() {
                message(hint);
            }
        }
        _ => {}
    }
    Ok(exit)
}

/// Opens the source. A signal ends that.
async fn open(flags: &JudgeFlags, signals: &mut Signals) -> Result<Opened, Exit> {
    select! {
        opened = flags.source.open(flags.bounds()) => opened.map_err(unusable),
        signal = signals.next() => Err(signal),
    }
}

/// Judges the outcomes of the source, and reports the verdict.
async fn judge(
    flags: &JudgeFlags,
    signals: Signals,
    source: &mut impl Source,
    trial: &mut Trial,
    mut record: Option<Record>,
    patience: Option<Duration>,
) -> io::Result<Exit> {
    let start = trial.tally().began();
    let mut report = (flags.output == JudgeOutput::Json).then(|| Report::new(output(), start));
    let Ended { exit, at, end } =
        follow(flags, signals, source, trial, patience, report.as_mut(), record.as_mut()).await?;
    if let Some(record) = &mut record {
        record.end(end, at).into_iter().for_each(message);
    }
    match &mut report {
        Some(report) => unless_unread(report.end(trial, source.asked(), at))?,
        None if exit == Exit::NoAnswer => {}
        None => unless_unread(write_sentences(trial, source.asked(), at))?,
    }
    Ok(exit)
}

/// How a trial ended, and when.
struct Ended {
    exit: Exit,
    at: Instant,
    end: End,
}

/// Follows the trial until there is an exit code, or until there was no answer for too long. It writes a line each second
/// if there is a report. Otherwise it shows the progress in a terminal, or writes a message every few seconds.
async fn follow(
    flags: &JudgeFlags,
    mut signals: Signals,
    source: &mut impl Source,
    trial: &mut Trial,
    patience: Option<Duration>,
    mut report: Option<&mut Report<Output>>,
    mut record: Option<&mut Record>,
) -> io::Result<Ended> {
    let ended = |exit, at, end| Ok(Ended { exit, at, end });
    let mut seconds = every_second();
    let until = Until { time: flags.time, count: flags.count };
    let mut progress = if report.is_none() { Progress::in_terminal(until) } else { None };
    let mut redraws = interval(REDRAWN_EVERY);
    redraws.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut passed, mut has_forecast, mut asked_since) = (0, false, None);
    let mut outlook = CountedOutlook::default();
    loop {
        select! {
            seen = source.next() => {
                let now = Instant::now();
                let Some(seen) = seen else {
                    trial.end();
                    return ended(exit_at_the_end(trial, now), now, End::Over);
                };
                if let Some(told) = record.as_mut().and_then(|record| record.observe(&seen, now)) {
                    clear(&mut progress);
                    message(told);
                }
                if let Seen::Request(observation) = &seen {
                    asked_since = asked_since.or(Some(observation.sent)); // pods may be ready only later
                }
                trial.see(&seen);
                if let Some(outlook) = outlook.after(&seen, trial, Some(flags.time)) {
                    clear(&mut progress);
                    message(outlook);
                }
                if let Some(report) = &mut report {
                    report.observe(&seen);
                }
                if let Seen::Trouble(text) = seen {
                    clear(&mut progress);
                    message(text);
                }
                if let Some(exit) = exit_by_verdict(trial, now) {
                    return ended(exit, now, End::Decided);
                }
                let elapsed = trial.tally().began().elapsed();
                let is_over = |(patience, since): (Duration, Instant)| since.elapsed() > patience;
                if trial.tally().answered() == 0 && patience.zip(asked_since).is_some_and(is_over) {
                    return ended(Exit::NoAnswer, now, End::Stopped);
                }
                if !has_forecast && let Some(verdict) = verdict_to_forecast_from(trial, now) {
                    has_forecast = true;
                    clear(&mut progress);
                    let rate = trial.counted_rate().unwrap_or(flags.source.probe.rate);
                    message(forecast(&verdict, flags, rate, trial.tally().total(), elapsed));
                }
            }
            _ = seconds.tick() => {
                let now = Instant::now();
                passed += 1;
                if let Some(told) = record.as_mut().and_then(|record| record.flush()) {
                    clear(&mut progress);
                    message(told);
                }
                if let Some(report) = &mut report {
                    report.end_second(trial, now)?;
                } else if progress.is_none() && passed % PROGRESS == 0 {
                    let elapsed = trial.tally().began().elapsed().as_secs();
                    message(format_args!("after {elapsed} s: {}", trial.verdict(now)));
                }
            }
            _ = redraws.tick(), if progress.is_some() => {
                if let Some(progress) = &mut progress {
                    let tally = trial.tally();
                    progress.draw(tally, &trial.verdict(Instant::now()), tally.began().elapsed());
                }
            }
            signal = signals.next() => return ended(signal, Instant::now(), End::Stopped),
        }
    }
}

/// Clears the progress before a message.
fn clear(progress: &mut Option<Progress>) {
    if let Some(progress) = progress {
        progress.clear();
    }
}

/// The verdict, once it rests on enough answers of the canary for a forecast. Answers do not count while earlier requests
/// are open.
fn verdict_to_forecast_from(trial: &Trial, now: Instant) -> Option<Verdict> {
    let enough = |canary: Counts| canary.requests >= ANSWERS_UNTIL_FORECAST;
    if !enough(trial.tally().of_release(Release::Canary)) {
        return None; // checked first, because a verdict takes longer to compute
    }
    Some(trial.verdict(now)).filter(|verdict| enough(verdict.canary.counts))
}

/// The exit code of a decided verdict.
fn exit_by_verdict(trial: &Trial, now: Instant) -> Option<Exit> {
    trial.decided(now).map(|decision| exit_of(&decision))
}

fn exit_of(decision: &Decision) -> Exit {
    match decision {
        Decision::Promote { .. } => Exit::Done,
        Decision::RollBack { .. } => Exit::RollBack,
        Decision::NotYet => Exit::NotYet,
        Decision::Hold => Exit::Hold,
    }
}

/// The exit code when no more outcomes will come.
fn exit_at_the_end(trial: &Trial, now: Instant) -> Exit {
    if let Some(exit) = exit_by_verdict(trial, now) {
        exit
    } else if trial.tally().answered() == 0 {
        Exit::NoAnswer
    } else if Release::BOTH.into_iter().any(|release| never_seen(trial, release)) {
        Exit::ReleaseNeverSeen
    } else {
        exit_of(&trial.verdict(now).decision)
    }
}

fn never_seen(trial: &Trial, release: Release) -> bool {
    trial.tally().of_release(release).requests == 0
}

/// Writes which release was never seen. The message begins with `beginning`.
fn explain_unseen(beginning: &str, trial: &Trial) {
    let unseen = Release::BOTH.into_iter().filter(|release| never_seen(trial, *release));
    let unseen: Vec<_> = unseen.map(|release| release.to_string()).collect();
    message(format_args!("{beginning} {}", unseen.join(" or ")));
}

/// The exit code at the end stays the verdict's, even if the reader of the output has gone, as in `| head`.
fn unless_unread(written: io::Result<()>) -> io::Result<()> {
    written.or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
}

fn write_sentences(trial: &Trial, asked: Option<Asked>, now: Instant) -> io::Result<()> {
    let verdict = trial.verdict(now);
    writeln!(output(), "{verdict}")?;
    if let Some(Asked { text, .. }) = asked {
        writeln!(output(), "{text}")?;
    }
    let statuses = trial.tally().statuses();
    if !statuses.are_good() {
        writeln!(output(), "Status codes of the answers: {statuses}.")?;
    }
    if let Some(price) = trial.price(now) {
        writeln!(output(), "{}", verdict.price_sentence(&price))?;
    }
    Ok(())
}
