//! The walkthrough in a terminal: the step, the picture of `watch` below it, and the next step with the key n.

use std::{io, pin::pin, time::Instant};

use ratatui::{style::Stylize, text::Line};
use tokio::{select, sync::mpsc::UnboundedReceiver, time::interval};

use super::{
    LEFT_OUT, TIMEOUT,
    cluster::Cluster,
    default_trial,
    steps::{FOLLOWED_EVERY, Step},
};
use crate::{
    exit::Exit,
    signals::Signals,
    source::probe::{Limits, Pace, Probe, Service},
    view::{
        live::{Event, LivePicture},
        picture::wrapped,
    },
};

/// The line between the step and the picture.
const KEYS: &str = "── n next step ─ q quit ─ p pause ─ r reset ";

/// The text above the picture.
struct StepText {
    /// The current or last step.
    step: Step,
    /// The commands that do the same on a cluster.
    commands: Vec<String>,
    /// The last event of the step.
    note: String,
    /// What the key n does; empty during a step, and after the last.
    next: Option<Step>,
    under_way: bool,
}

impl StepText {
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
        lines.extend(wrapped(self.step.what_to_see(), width).into_iter().map(Line::from));
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

/// Goes through the steps by keys.
pub(super) async fn run(
    mut cluster: Cluster,
    mut notes: UnboundedReceiver<String>,
    signals: Signals,
    rate: f64,
) -> io::Result<Exit> {
    let pace = Pace { rate, limits: Limits::timeout(TIMEOUT), time: None, count: None };
    let probe = Probe::paused(Service::plain(cluster.target()), pace); // until there is a pod
    let trial = default_trial(rate).map_err(io::Error::other)?;
    let mut picture = LivePicture::open(cluster.target().to_string(), "", signals, probe, trial)?;
    let mut following = Step::ALL.into_iter().skip(1);
    for step in Step::ALL {
        let mut text = StepText::of(step, &cluster);
        {
            let mut applying = pin!(step.apply(&mut cluster));
            loop {
                select! {
                    applied = &mut applying => break applied?,
                    Some(note) = notes.recv() => text.note = note,
                    event = picture.event(|width| text.lines(width)) => if let Some(exit) = end(event?) {
                        return Ok(exit);
                    },
                }
            }
        }
        if step.begins_a_trial() {
            picture.reset(Instant::now());
        }
        picture.mark_share(None);
        picture.resume();
        text.under_way = false;
        text.next = following.next();
        let mut changes = interval(FOLLOWED_EVERY);
        loop {
            select! {
                _ = changes.tick(), if step.follows().is_some() => {
                    // as a gateway with weights that add up to 1000
                    let share = (picture.trial().verdict(Instant::now()).max_share * 1000.0).floor() / 1000.0;
                    cluster.set_canary_share(Some(share));
                    picture.mark_share(Some(share));
                }
                Some(note) = notes.recv() => text.note = note,
                event = picture.event(|width| text.lines(width)) => match event? {
                    Event::Next if text.next.is_some() => break,
                    event => if let Some(exit) = end(event) {
                        return Ok(exit);
                    },
                },
            }
        }
    }
    Ok(Exit::Done)
}

/// The exit code, if this event ends the program.
fn end(event: Event) -> Option<Exit> {
    match event {
        Event::Next => None,
        Event::End(exit) => Some(exit),
        Event::RequestsOver => Some(Exit::Done),
    }
}
