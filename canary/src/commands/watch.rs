//! `canary watch`: a live picture, or lines of JSON.

pub mod flags;

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use tokio::select;

use self::flags::{WatchFlags, WatchOutput};
use super::{unusable, without_answer};
use crate::{
    exit::Exit,
    messages::message,
    output::output,
    signals::{self, ended_by},
    source::{Seen, Source, opened::Opened},
    trial::{CountedOutlook, Trial},
    view::{
        live::{Event, LivePicture},
        report::{Report, every_second},
        terminal,
    },
};

/// Runs until a key or signal ends it, or until the end of `--for` or `--count`.
///
/// # Errors
/// If the terminal or the output fails.
pub async fn run(flags: &WatchFlags) -> io::Result<Exit> {
    let Opened { source, title, how, rate, share, .. } = match flags.source.open(flags.bounds()).await {
        Ok(opened) => opened,
        Err(error) => return Ok(unusable(error)),
    };
    let trial = flags.trial.of(rate, Instant::now())?.with_given_share(share);
    let unfit = terminal::unfit();
    let usual = if unfit.is_none() { WatchOutput::Picture } else { WatchOutput::Json };
    match (flags.output.unwrap_or(usual), unfit) {
        (WatchOutput::Picture, Some(why)) => Err(io::Error::other(format!("--output picture: {why}"))),
        (WatchOutput::Picture, None) => picture(&title, source, trial).await,
        (WatchOutput::Json, _) => lines(&how, rate, flags.time, source, trial).await,
    }
}

async fn picture(title: &str, source: impl Source, trial: Trial) -> io::Result<Exit> {
    let signals = signals::listen()?;
    source.pause(false);
    let keys = "q quit   p pause   r reset";
    let mut picture = LivePicture::open(title.to_owned(), keys, signals, source, trial)?;
    let ended_by = loop {
        match picture.event(|_| Vec::new()).await? {
            Event::Next => {}
            Event::End(exit) => break Some(exit),
            Event::RequestsOver => break None,
        }
    };
    let asked = picture.asked().map_or(String::new(), |asked| format!("\n{}", asked.text));
    let mut trial = picture.close();
    if ended_by.is_none() {
        trial.end();
    }
    let (total, verdict) = (trial.tally().total(), trial.verdict(Instant::now()));
    let written = writeln!(
        output(),
        "{title}: {} requests, {} failed\n{verdict}{asked}",
        total.requests,
        total.failures
    );
    match ended_by {
        Some(signal @ Exit::Signal(_)) => Ok(signal), // the terminal may be gone
        Some(exit) => written.map(|()| exit),
        None => written.map(|()| ended(&trial)),
    }
}

async fn lines(
    how: &str,
    rate: Option<f64>,
    time: Option<Duration>,
    mut source: impl Source,
    mut trial: Trial,
) -> io::Result<Exit> {
    let mut signals = signals::listen()?;
    source.pause(false);
    let mut report = Report::new(output(), trial.tally().began());
    message(format_args!("asking {how}"));
    if let Some(rate) = rate {
        message(trial.outlook(rate, time));
    }
    let mut outlook = CountedOutlook::default();
    let mut seconds = every_second();
    let exit = loop {
        select! {
            seen = source.next() => {
                let Some(seen) = seen else {
                    trial.end();
                    break ended(&trial);
                };
                trial.see(&seen);
                if let Some(outlook) = outlook.after(&seen, &trial, time) {
                    message(outlook);
                }
                report.observe(&seen);
                if let Seen::Trouble(text) = seen {
                    message(text);
                }
            }
            _ = seconds.tick() => report.end_second(&trial, Instant::now())?,
            signal = signals.next() => break ended_by(signal),
        }
    };
    report.end(&trial, source.asked(), Instant::now())?;
    Ok(exit)
}

/// The exit code when no more requests will come.
fn ended(trial: &Trial) -> Exit {
    let tally = trial.tally();
    if tally.answered() > 0 {
        return Exit::Done;
    }
    if let Some(shortage) = tally.none_sent() {
        message(format_args!("no request could be sent: {shortage}"));
    }
    without_answer(tally)
}
