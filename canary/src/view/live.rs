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
    history::History,
    picture::{Palette, Picture},
    terminal::{Input, Screen, is_gone},
};
use crate::{
    exit::Exit,
    signals::{self, Job, JobControl, Signals, ended_by},
    source::Source,
    trial::Trial,
};
use canary_judge::Fraction;

/// The rows that the picture needs to show the releases and the verdict, whatever is above it.
const PICTURE_ROWS: u16 = 8;
/// The number of last lines above the picture that are always shown: they say what comes next, and the keys.
const KEPT_BELOW: usize = 3;

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
    history: History,
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
        let history = History::default();
        Ok(Self {
            screen,
            title,
            keys,
            palette,
            frames,
            signals,
            job_control,
            source,
            paused: false,
            trial,
            history,
        })
    }

    /// Counts requests and draws until there is an event. `above` returns the lines above the picture, for a
    /// width in columns. If there are too many, the last ones but [`KEPT_BELOW`] are left out. Cancel-safe.
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
                        self.trial.pause(self.paused, Instant::now());
                    }
                    Input::Reset => self.reset(Instant::now()),
                    Input::Suspend => signals::suspend_job(),
                },
                signal = self.signals.next() => return Ok(Event::End(ended_by(signal))),
                signal = self.job_control.next() => self.handle(signal)?,
                _ = self.frames.tick() => {}
            }
            match self.draw(&above) {
                // the signal that says so may come later
                Err(error) if is_gone(&error) => return Ok(Event::End(signals::HUNG_UP)),
                drawn => drawn?,
            }
        }
    }

    /// Starts the trial again, as of `now`, for another canary.
    pub(crate) fn reset(&mut self, now: Instant) {
        self.trial.reset(now);
        self.history.reset();
    }

    /// Sends requests, unless the user has paused them with a key.
    pub(crate) fn resume(&self) {
        self.source.pause(self.paused);
    }

    /// The trial.
    pub(crate) fn trial(&self) -> &Trial {
        &self.trial
    }

    /// Marks this share of the canary, from 0 to 1, or again that of its pods.
    pub(crate) fn mark_share(&mut self, share: Option<f64>) {
        self.trial.set_given_share(share.and_then(|share| Fraction::new(share).ok()));
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
        let now = Instant::now();
        if !self.paused {
            self.history.observe(&self.trial, now);
        }
        let picture = Picture {
            title: &self.title,
            trial: &self.trial,
            paused: self.paused,
            now,
            keys: self.keys,
            palette: self.palette,
            history: &self.history,
        };
        self.screen.draw(|frame| {
            let lines = fitting(above(frame.area().width), frame.area().height);
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

/// The lines that leave enough of the rows for the picture. An ellipsis marks where lines are left out.
fn fitting(mut lines: Vec<Line<'_>>, rows: u16) -> Vec<Line<'_>> {
    let most = usize::from(rows.saturating_sub(PICTURE_ROWS)).max(KEPT_BELOW + 1);
    if lines.len() > most {
        let last = lines.split_off(lines.len() - KEPT_BELOW);
        lines.truncate(most - KEPT_BELOW);
        let first = lines.len();
        lines.extend(last);
        lines[first].spans.insert(0, "…".into());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_keeps_its_rows_and_the_last_lines_above_it_stay() {
        let above = || (1..=13).map(|number| Line::from(number.to_string())).collect::<Vec<_>>();
        let shown = |rows| fitting(above(), rows).iter().map(Line::to_string).collect::<Vec<_>>();
        assert_eq!(shown(12), ["1", "…11", "12", "13"]);
        assert_eq!(shown(14), ["1", "2", "3", "…11", "12", "13"]);
        assert_eq!(shown(21).len(), 13);
        assert_eq!(shown(3), ["1", "…11", "12", "13"]);
    }
}
