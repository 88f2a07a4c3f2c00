//! The story at the pace of a person: the step, the picture of `watch` beneath it, and what n does next.

use std::{
    io::{self, IsTerminal},
    pin::pin,
    time::{Duration, Instant},
};

use ratatui::{
    layout::{Constraint, Layout},
    style::Stylize,
    text::Line,
};
use tokio::{
    select,
    sync::mpsc::UnboundedReceiver,
    time::{Interval, MissedTickBehavior, interval},
};

use super::{LEFT_OUT, cluster::Cluster, measure::new_trial, story::Step};
use crate::{
    exit::Exit,
    picture::{Palette, Picture, wrapped},
    sample::{Pace, Sampling},
    signals::{Signals, ended_by},
    terminal::{Input, Screen},
    trial::Trial,
    watch::FRAME,
};

/// Told on the line between story and picture.
const KEYS: &str = "── n next step ─ q quit ─ p pause ─ r reset ";
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What is told above the picture.
struct Scene {
    /// The step that is under way or was the last.
    step: Step,
    /// What would do the same on a cluster.
    commands: Vec<String>,
    /// What is being done, or was done last.
    note: String,
    /// What n does; nothing while the step is under way, or after the last.
    next: Option<Step>,
    under_way: bool,
}

impl Scene {
    fn of(step: Step, cluster: &Cluster) -> Self {
        Self { step, commands: step.commands(cluster), note: String::new(), next: None, under_way: true }
    }

    fn lines(&self, width: u16) -> Vec<Line<'_>> {
        let number = Step::ALL.iter().position(|step| *step == self.step).unwrap_or(0) + 1;
        let title = format!("Rehearsal, step {number} of {}: {}", Step::ALL.len(), self.step.title());
        let mut lines = vec![Line::from(title).bold()];
        for command in &self.commands {
            lines.extend(wrapped(&format!("$ {command}"), width).into_iter().map(Line::from));
        }
        lines.extend(wrapped(self.step.lesson(), width).into_iter().map(Line::from));
        if self.step == Step::Deploy {
            lines.extend(wrapped(LEFT_OUT, width).into_iter().map(|line| Line::from(line).dim()));
        }
        lines.push(Line::from(self.note.as_str()).italic());
        lines.push(match &self.next {
            Some(step) => Line::from(format!("n: {}", step.title())).bold(),
            None if self.under_way => Line::from("…"),
            None => Line::from("That was the whole story. q ends it.").bold(),
        });
        lines.push(Line::from(format!("{KEYS:─<0$}", usize::from(width))).dim());
        lines
    }
}

/// What a person, or a signal, wants.
enum Wish {
    Next,
    End(Exit),
}

/// What is on the screen, and where it comes from.
struct View<'a> {
    screen: Screen,
    title: String,
    sampling: Sampling,
    trial: Trial,
    paused: bool,
    notes: UnboundedReceiver<String>,
    signals: &'a mut Signals,
    frames: Interval,
    palette: Palette,
}

impl View<'_> {
    /// Waits for what comes next, and draws anew. Losing the future loses nothing.
    async fn turn(&mut self, scene: &mut Scene) -> io::Result<Option<Wish>> {
        select! {
            Some(observation) = self.sampling.next() => {
                self.trial.observe(&observation);
                return Ok(None);
            }
            Some(note) = self.notes.recv() => scene.note = note,
            input = self.screen.input() => match input {
                Input::Quit => return Ok(Some(Wish::End(Exit::Done))),
                Input::Next if !scene.under_way => return Ok(Some(Wish::Next)),
                Input::Pause => {
                    self.paused = !self.paused;
                    self.sampling.pause(self.paused);
                }
                Input::Reset => self.trial.reset(Instant::now()),
                Input::Next | Input::Resize => {}
            },
            signal = self.signals.next() => return Ok(Some(Wish::End(ended_by(signal)))),
            _ = self.frames.tick() => {}
        }
        let (title, trial, paused, palette) = (self.title.as_str(), &self.trial, self.paused, self.palette);
        let picture = Picture { title, trial, paused, now: Instant::now(), keys: "", palette };
        self.screen.draw(|frame| {
            let lines = scene.lines(frame.area().width);
            let height = u16::try_from(lines.len()).unwrap_or(u16::MAX);
            let [above, below] =
                Layout::vertical([Constraint::Length(height), Constraint::Fill(1)]).areas(frame.area());
            for (line, row) in lines.into_iter().zip(above.rows()) {
                frame.render_widget(line, row);
            }
            frame.render_widget(picture, below);
        })?;
        Ok(None)
    }
}

/// Goes through the steps as the keys say.
pub(super) async fn run(
    mut cluster: Cluster,
    notes: UnboundedReceiver<String>,
    signals: &mut Signals,
    rate: f64,
) -> io::Result<Exit> {
    if !io::stdout().is_terminal() {
        return Err(io::Error::other("rehearse needs a terminal; with --script it goes without"));
    }
    let mut frames = interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let pace = Pace { rate, timeout: TIMEOUT, time: None, count: None };
    let mut view = View {
        screen: Screen::open()?,
        title: cluster.target().to_string(),
        sampling: Sampling::paused(cluster.target(), pace), // until there is a pod
        trial: new_trial(rate).map_err(io::Error::other)?,
        paused: false,
        notes,
        signals,
        frames,
        palette: Palette::from_environment(),
    };
    let mut following = Step::ALL.into_iter().skip(1);
    for step in Step::ALL {
        let mut scene = Scene::of(step, &cluster);
        {
            let mut performing = pin!(step.perform(&mut cluster));
            loop {
                select! {
                    performed = &mut performing => break performed?,
                    wish = view.turn(&mut scene) => if let Some(Wish::End(exit)) = wish? {
                        return Ok(exit);
                    },
                }
            }
        }
        if step.begins_a_trial() {
            view.trial.reset(Instant::now());
        }
        view.sampling.pause(view.paused);
        scene.under_way = false;
        scene.next = following.next();
        loop {
            match view.turn(&mut scene).await? {
                Some(Wish::End(exit)) => return Ok(exit),
                Some(Wish::Next) if scene.next.is_some() => break,
                Some(Wish::Next) | None => {}
            }
        }
    }
    Ok(Exit::Done)
}
