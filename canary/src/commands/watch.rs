//! `canary watch`: a live picture, or lines of JSON.

use std::{
    io::{self, Write},
    time::Instant,
};

use tokio::select;

use crate::{
    cli::{WatchFlags, WatchOutput},
    exit::Exit,
    messages::message,
    signals::{self, ended_by},
    source::probe::{Probe, Service},
    trial::Trial,
    view::{
        live::{Event, LivePicture},
        report::{Report, every_second},
        terminal,
    },
};

/// Runs it until it is told to end, or `--for` or `--count` is over.
///
/// # Errors
/// If the terminal or the output fails.
pub async fn run(flags: &WatchFlags) -> io::Result<Exit> {
    let service = match flags.probe.service() {
        Ok(service) => service,
        Err(error) => {
            message(error);
            return Ok(Exit::Usage);
        }
    };
    let unfit = terminal::unfit();
    let usual = if unfit.is_none() { WatchOutput::Picture } else { WatchOutput::Json };
    match (flags.output.unwrap_or(usual), unfit) {
        (WatchOutput::Picture, Some(why)) => Err(io::Error::other(format!("--output picture: {why}"))),
        (WatchOutput::Picture, None) => picture(flags, service).await,
        (WatchOutput::Json, _) => lines(flags, service).await,
    }
}

fn begin(flags: &WatchFlags, service: Service) -> io::Result<(Probe, Trial)> {
    let trial = flags.trial.of_sample(flags.probe.rate, Instant::now())?;
    let pace = flags.probe.pace(flags.time, flags.trial.max_latency);
    Ok((Probe::start(service, pace), trial))
}

async fn picture(flags: &WatchFlags, service: Service) -> io::Result<Exit> {
    let signals = signals::listen()?;
    let (probe, trial) = begin(flags, service)?;
    let title = flags.probe.target.to_string();
    let mut picture = LivePicture::open(title.clone(), "q quit   p pause   r reset", signals, probe, trial)?;
    loop {
        match picture.event(|_| Vec::new()).await? {
            Event::Next => {}
            Event::End(exit) => return Ok(exit),
            Event::RequestsOver => break,
        }
    }
    let mut trial = picture.close();
    trial.end();
    let (total, verdict) = (trial.tally().total(), trial.verdict());
    writeln!(io::stdout(), "{title}: {} requests, {} failed\n{verdict}", total.requests, total.failures)?;
    Ok(ended(&trial))
}

async fn lines(flags: &WatchFlags, service: Service) -> io::Result<Exit> {
    let mut signals = signals::listen()?;
    let (mut probe, mut trial) = begin(flags, service)?;
    let mut report = Report::new(io::stdout(), trial.tally().began());
    message(format_args!("asking {} {} times a second", flags.probe.target, flags.probe.rate));
    let mut seconds = every_second();
    let exit = loop {
        select! {
            observation = probe.next() => {
                let Some(observation) = observation else {
                    trial.end();
                    break ended(&trial);
                };
                trial.observe(&observation);
                report.observe(&observation);
            }
            _ = seconds.tick() => report.end_second(&trial, Instant::now())?,
            signal = signals.next() => break ended_by(signal),
        }
    };
    report.end(&trial, Instant::now())?;
    Ok(exit)
}

/// How it ended when there are no more requests to come.
fn ended(trial: &Trial) -> Exit {
    if trial.tally().answered() > 0 { Exit::Done } else { Exit::NoAnswer }
}
