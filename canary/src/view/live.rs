//! A live picture of a trial in a terminal.

use std::{
    io,
    time::{Duration, Instant},
};

use ratatui::{
    layout::{Constraint, Layout},
    text::Line,
};
use tokio::{
    select,
    time::{Interval, MissedTickBehavior, interval},
};

use super::{
    picture::{Palette, Picture},
    terminal::{Input, Screen},
};
use crate::{
    exit::Exit,
    signals::{self, Job, JobControl, Signals, ended_by},
    source::Source,
    trial::Trial,
};

/// The time between two frames.
const FRAME: Duration = Duration::from_millis(100);

/// A live picture. Dropping it restores the terminal.
pub(crate) struct LivePicture<S> {
    screen: Screen,
    title: String,
    keys: &'static str,
    palette: Palette,
    frames: Interval,
    signals: Signals,
    job_control: JobControl,
    source: S,
    paused: bool,
    trial: Trial,
}

/// An event that the caller must handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A key asks for the next step.
    Next,
    /// A key or a signal ends the program.
    End(Exit),
    /// All requests have ended, and no more will come.
    RequestsOver,
}

impl<S: Source> LivePicture<S> {
    /// Opens the picture in the terminal. `title` is the picture's first line, `keys` its last line.
    ///
    /// # Errors
    /// If standard output is not a terminal, or cannot be set up.
    pub(crate) fn open(
        title: String,
        keys: &'static str,
        signals: Signals,
        source: S,
        trial: Trial,
    ) -> io::Result<Self> {
        let job_control = signals::job_control()?;
        let screen = Screen::open()?;
        let mut frames = interval(FRAME);
        frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let palette = Palette::from_environment();
        Ok(Self { screen, title, keys, palette, frames, signals, job_control, paused: false, source, trial })
    }

    /// Counts requests and draws until there is an event. `above` returns the lines above the picture, for a
    /// width in columns. Cancel-safe.
    pub(crate) async fn event<'a>(&mut self, above: impl Fn(u16) -> Vec<Line<'a>>) -> io::Result<Event> {
        loop {
            select! {
                seen = self.source.next() => match seen {
                    Some(seen) => {
                        self.trial.see(&seen);
                        continue;
                    }
                    None => return Ok(Event::RequestsOver),
                },
                input = self.screen.input() => match input {
                    Input::Quit => return Ok(Event::End(Exit::Done)),
                    Input::Next => return Ok(Event::Next),
                    Input::Pause => {
                        self.paused = !self.paused;
                        self.source.pause(self.paused);
                    }
                    Input::Reset => self.trial.reset(Instant::now()),
                    Input::Suspend => signals::suspend_job(),
                },
                signal = self.signals.next() => return Ok(Event::End(ended_by(signal))),
                signal = self.job_control.next() => self.handle(signal)?,
                _ = self.frames.tick() => {}
            }
            self.draw(&above)?;
        }
    }

    /// Starts the trial again, as of `now`, for another canary.
    pub(crate) fn reset(&mut self, now: Instant) {
        self.trial.reset(now);
    }

    /// Sends requests, unless the user has paused them with a key.
    pub(crate) fn resume(&self) {
        self.source.pause(self.paused);
    }

    /// Restores the terminal, and returns the trial.
    pub(crate) fn close(self) -> Trial {
        self.trial
    }

    fn handle(&mut self, signal: Job) -> io::Result<()> {
        if signal == Job::Stop {
            if !signals::is_a_job() {
                return Ok(());
            }
            self.screen.leave();
            signals::stop();
        }
        self.screen.come_back()
    }

    fn draw<'a>(&mut self, above: impl Fn(u16) -> Vec<Line<'a>>) -> io::Result<()> {
        let picture = Picture {
            title: &self.title,
            trial: &self.trial,
            paused: self.paused,
            now: Instant::now(),
            keys: self.keys,
            palette: self.palette,
        };
        self.screen.draw(|frame| {
            let lines = above(frame.area().width);
            let height = u16::try_from(lines.len()).unwrap_or(u16::MAX);
            let [above, below] =
                Layout::vertical([Constraint::Length(height), Constraint::Fill(1)]).areas(frame.area());
            for (line, row) in lines.into_iter().zip(above.rows()) {
                frame.render_widget(line, row);
            }
            frame.render_widget(picture, below);
        })
    }
}
