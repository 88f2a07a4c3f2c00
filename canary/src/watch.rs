//! `canary watch`: a live picture, or lines of JSON.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use tokio::{
    select,
    time::{MissedTickBehavior, interval, interval_at},
};

use crate::{
    config::{Watch, WatchOutput},
    exit::Exit,
    picture::{Palette, Picture},
    report::Report,
    sample::Sampling,
    signals::{Signals, ended_by},
    terminal::{Input, Screen},
    trial::Trial,
};

/// How often the picture is drawn.
pub(crate) const FRAME: Duration = Duration::from_millis(100);

/// Runs it until it is told to end, or `--for` or `--count` is over.
///
/// # Errors
/// If the terminal or the output fails.
pub async fn run(watch: &Watch) -> io::Result<Exit> {
    let output = watch
        .output
        .unwrap_or_else(|| if io::stdout().is_terminal() { WatchOutput::Picture } else { WatchOutput::Json });
    match output {
        WatchOutput::Picture => picture(watch).await,
        WatchOutput::Json => lines(watch).await,
    }
}

fn begin(watch: &Watch) -> io::Result<(Sampling, Trial)> {
    let trial = watch.judging.trial(&watch.sampling, Instant::now())?;
    Ok((Sampling::start(watch.sampling.target.clone(), watch.sampling.pace(watch.time)), trial))
}

async fn picture(watch: &Watch) -> io::Result<Exit> {
    if !io::stdout().is_terminal() {
        return Err(io::Error::other("--output picture: standard output is no terminal"));
    }
    let mut signals = Signals::new()?;
    let mut screen = Screen::open()?;
    let (mut sampling, mut trial) = begin(watch)?;
    let (title, palette) = (watch.sampling.target.to_string(), Palette::from_environment());
    let mut frames = interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut paused = false;
    let exit = loop {
        select! {
            observation = sampling.next() => match observation {
                Some(observation) => {
                    trial.observe(&observation);
                    continue;
                }
                None => break ended(&trial),
            },
            input = screen.input() => match input {
                Input::Quit => return Ok(Exit::Done),
                Input::Pause => {
                    paused = !paused;
                    sampling.pause(paused);
                }
                Input::Reset => trial.reset(Instant::now()),
                Input::Next | Input::Resize => {}
            },
            signal = signals.next() => return Ok(ended_by(signal)),
            _ = frames.tick() => {}
        }
        let (title, keys) = (title.as_str(), "q quit   p pause   r reset");
        let picture = Picture { title, trial: &trial, paused, now: Instant::now(), keys, palette };
        screen.draw(|frame| frame.render_widget(picture, frame.area()))?;
    };
    drop(screen);
    let (total, verdict) = (trial.tally().total(), trial.verdict());
    writeln!(io::stdout(), "{title}: {} requests, {} failed\n{verdict}", total.total(), total.failure)?;
    Ok(exit)
}

async fn lines(watch: &Watch) -> io::Result<Exit> {
    let mut signals = Signals::new()?;
    let (mut sampling, mut trial) = begin(watch)?;
    let mut report = Report::new(io::stdout(), trial.tally().began());
    eprintln!("canary: asking {} {} times a second", watch.sampling.target, watch.sampling.rate);
    let mut seconds = every_second();
    let exit = loop {
        select! {
            observation = sampling.next() => match observation {
                Some(observation) => {
                    trial.observe(&observation);
                    report.observe(&observation);
                }
                None => break ended(&trial),
            },
            _ = seconds.tick() => report.end_second(&trial, Instant::now())?,
            signal = signals.next() => break ended_by(signal),
        }
    };
    report.end(&trial, Instant::now())?;
    Ok(exit)
}

/// Ticks for the first time in a second.
pub(crate) fn every_second() -> tokio::time::Interval {
    let second = Duration::from_secs(1);
    interval_at(tokio::time::Instant::now() + second, second)
}

/// How it ended when there are no more requests to come.
fn ended(trial: &Trial) -> Exit {
    if trial.tally().answered() > 0 { Exit::Done } else { Exit::NobodyAnswers }
}
