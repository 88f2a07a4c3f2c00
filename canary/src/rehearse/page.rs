//! The walkthrough in the page of `canary serve`: the step, and a button for the next one.

use std::{
    convert::Infallible,
    env,
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    pin::pin,
    sync::Arc,
};

use tokio::{
    net::TcpListener,
    select,
    sync::{mpsc::UnboundedReceiver, watch},
    time::interval,
};

use super::{
    Faults, LEFT_OUT, TIMEOUT,
    cluster::Cluster,
    default_trial, mystery,
    steps::{FOLLOWED_EVERY, Step},
};
use crate::{
    exit::Exit,
    messages::{elsewhere, in_networks, message, usable},
    serve::{Access, Ports, Rehearsal, Serve, what_changed},
    signals::{Signals, ended_by},
    source::{
        FailingAnswer, Seen, Source,
        probe::{Limits, Options, Pace, Probe, Service},
        strata::WeightedPath,
    },
    view::{
        page::{Canary, Conditions, Progress},
        qr_code,
    },
};
use canary_judge::Traffic;

/// Serves the page, and goes through the steps by its button.
pub(super) async fn run(
    mut cluster: Cluster,
    notes: UnboundedReceiver<String>,
    (listener, phones): (TcpListener, Option<TcpListener>),
    access: Access,
    mut signals: Signals,
    rate: f64,
) -> io::Result<Exit> {
    let at = phones.as_ref().map(places_to_vote).transpose()?;
    let riddle = cluster.riddle.clone();
    let before = before_the_first_step(rate);
    let rehearsal = Rehearsal::new(match &riddle {
        Some(riddle) => mystery::before_the_first_step(riddle, before),
        None => before,
    });
    let rehearsal = Arc::new(match at.as_ref().and_then(|at| at.first()) {
        Some(first) => rehearsal.with_vote(url(*first)),
        None => rehearsal,
    });
    let max_latency = riddle.is_some().then_some(mystery::MAX_LATENCY);
    let pace = Pace { rate, limits: Limits { timeout: TIMEOUT, max_latency }, time: None, count: None };
    let probe = Probe::paused(service_of(&cluster)?, pace);
    let source = OnceDeployed { progress: rehearsal.progress(), probe };
    let trial = default_trial(rate).map_err(io::Error::other)?;
    let title = cluster.target().to_string();
    let address = listener.local_addr()?;
    message(format_args!(
        "the rehearsal is on http://{}, of the Service {title}{}; Ctrl-C ends it",
        usable(address),
        elsewhere(address)
    ));
    if let Some(at) = &at {
        invite(at, address);
    }
    let serve = Serve::new(title, Some(Arc::clone(&rehearsal)), trial, access)?;
    let ports = Ports { public: listener, admin: None, phones };
    let steps = async {
        match riddle {
            Some(riddle) => mystery::take_steps(riddle, &mut cluster, notes, &rehearsal, &serve).await,
            None => take_steps(&mut cluster, notes, &rehearsal, &serve).await,
        }
    };
    select! {
        () = serve.run(source, None, None, ports, std::future::pending()) => Ok(Exit::Done),
        never = steps => match never? {},
        signal = signals.next() => Ok(ended_by(signal)),
    }
}

/// The Service to send requests to.
pub(super) fn service_of(cluster: &Cluster) -> io::Result<Service> {
    let target = cluster.target();
    if cluster.riddle.is_none() {
        return Ok(Service::plain(target));
    }
    let paths = mystery::PATHS.map(|path| WeightedPath { path: path.to_owned(), weight: 1 }).into();
    Service::new(target, Options { paths, ..Options::default() }).map_err(io::Error::other)
}

/// The addresses at which phones reach this listener, the most likely one first.
fn places_to_vote(phones: &TcpListener) -> io::Result<Vec<SocketAddr>> {
    let at = in_networks(phones.local_addr()?);
    if at.is_empty() {
        return Err(io::Error::other(
            "--vote: this machine has no network in which phones could reach it; connect it to one, or try it on this \
             machine alone, with --vote=127.0.0.1:8091",
        ));
    }
    Ok(at)
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// Tells where phones vote, with a code for their cameras, and what does not fit to that.
fn invite(at: &[SocketAddr], page: SocketAddr) {
    let [first, others @ ..] = at else { return };
    let others: Vec<_> = others.iter().map(|other| url(*other)).collect();
    let others = match &others[..] {
        [] => String::new(),
        others => format!(" (other addresses of this machine: {})", others.join(", ")),
    };
    let alone = if first.ip().is_loopback() { ", which only this machine reaches" } else { "" };
    message(format_args!(
        "phones vote on {}{others}{alone}; the page shows the code as well, with the key v",
        url(*first)
    ));
    let coloured = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none();
    let _ = write!(io::stderr(), "{}", qr_code::lines(&url(*first), coloured)); // as a message that cannot be written
    if !page.ip().is_loopback() {
        message(
            "the page is open to other machines, too: who knows its address can read the hidden verdict. Without an \
             address, --page is for this machine alone",
        );
    }
}

fn before_the_first_step(rate: f64) -> Progress {
    let conditions =
        Conditions { canary: Canary::None, share: None, fails: 0.0, delay_ms: 0.0, rate, incident: false };
    Progress {
        number: 0,
        of: Step::ALL.len(),
        before: 0,
        title: "A rehearsal with no cluster",
        commands: Vec::new(),
        text: LEFT_OUT.to_owned(),
        note: String::new(),
        began: String::new(),
        conditions,
        of_step: conditions,
        next: Some(Step::ALL[0].title()),
        under_way: false,
        held: false,
        curtain: false,
        vote: None,
        paused: true,
    }
}

/// Takes each step when a viewer requests it. Returns only on an error.
async fn take_steps(
    cluster: &mut Cluster,
    mut notes: UnboundedReceiver<String>,
    rehearsal: &Rehearsal,
    serve: &Serve,
) -> io::Result<Infallible> {
    let following = Step::ALL.into_iter().skip(1).map(Some).chain([None]);
    for ((step, next), number) in Step::ALL.into_iter().zip(following).zip(1..) {
        rehearsal.until_wanted(number).await;
        serve.pause(rehearsal, false);
        rehearsal.begin_round(); // before the step is told, so that no vote about it is for the round before
        rehearsal.show(|progress| {
            *progress = Progress {
                number,
                title: step.title(),
                commands: step.commands(cluster),
                text: step.what_to_see().to_owned(),
                note: String::new(),
                began: String::new(),
                next: next.map(Step::title),
                under_way: true,
                vote: progress.vote.take(),
                ..*progress
            };
        });
        let (before, of_step) = rehearsal.conditions();
        let changed = before != Conditions { rate: before.rate, ..of_step };
        if changed {
            cluster.label_conditions(&Conditions { fails: 0.0, delay_ms: 0.0, incident: false, ..before })?;
        }
        showing_notes(step.apply(cluster), &mut notes, rehearsal).await?;
        let judged_anew = step.changes().or_else(|| cluster.canary().filter(|_| changed));
        if let Some(canary) = judged_anew {
            serve.reset(canary.template_hash);
        }
        let of_step = conditions_of(step, cluster, before.rate);
        rehearsal.refuse_changes().await;
        rehearsal.show(|progress| {
            (progress.under_way, progress.paused) = (false, false);
            (progress.conditions, progress.of_step) = (of_step, of_step);
        });
        loop {
            select! {
                () = rehearsal.until_wanted(number + 1) => break,
                () = follow(step, cluster, &mut notes, rehearsal, serve) => {}
                (conditions, done) = rehearsal.next_change() => {
                    change(step, conditions, cluster, rehearsal, serve)?;
                    while notes.try_recv().is_ok() {} // they say of each pod what is told of all
                    let _ = done.send(()); // who asked may be gone
                }
            }
        }
    }
    std::future::pending().await
}

/// The conditions of a step, at this rate.
fn conditions_of(step: Step, cluster: &Cluster, rate: f64) -> Conditions {
    let Faults { percent, delay_ms } = step.faults(cluster);
    Conditions {
        canary: cluster.shown_canary(),
        share: None,
        fails: percent,
        delay_ms,
        rate,
        incident: false,
    }
}

/// Changes the conditions, and begins a new trial.
fn change(
    step: Step,
    conditions: Conditions,
    cluster: &mut Cluster,
    rehearsal: &Rehearsal,
    serve: &Serve,
) -> io::Result<()> {
    let (before, of_step) = rehearsal.conditions();
    cluster.label_conditions(&conditions)?;
    cluster.set_canary_share(conditions.share.map(|percent| percent / 100.0).or_else(|| step.share()));
    // before it is told, so that what is told is about the new trial
    let traffic = Traffic::new(conditions.rate).map_err(io::Error::other)?;
    serve.begin_anew(cluster.canary().map(|canary| canary.template_hash), traffic);
    rehearsal.begin_round();
    rehearsal.show(|progress| {
        progress.conditions = conditions;
        progress.began = what_changed(&before, &conditions);
        progress.note = String::new();
        // they do not say what was changed by hand
        let is_as_in_step = conditions == Conditions { rate: conditions.rate, ..of_step };
        progress.commands = if is_as_in_step { step.commands(cluster) } else { Vec::new() };
    });
    Ok(())
}

/// Lets the canary's share of the requests follow the evidence, and shows it. In other steps, and with a weight that a person
/// has set, it only waits.
async fn follow(
    step: Step,
    cluster: &Cluster,
    notes: &mut UnboundedReceiver<String>,
    rehearsal: &Rehearsal,
    serve: &Serve,
) {
    let Some(canary) = step.follows().filter(|_| rehearsal.conditions().0.share.is_none()) else {
        return std::future::pending().await;
    };
    let mut changes = interval(FOLLOWED_EVERY);
    loop {
        select! {
            _ = changes.tick() => cluster.set_canary_share(Some(serve.max_share(canary.template_hash))),
            Some(note) = notes.recv() => rehearsal.show(|progress| progress.note = note),
        }
    }
}

/// Takes a step, and shows its events.
pub(super) async fn showing_notes(
    applying: impl Future<Output = io::Result<()>>,
    notes: &mut UnboundedReceiver<String>,
    rehearsal: &Rehearsal,
) -> io::Result<()> {
    let show = |note| rehearsal.show(|progress| progress.note = note);
    let mut applying = pin!(applying);
    let applied = loop {
        select! {
            applied = &mut applying => break applied,
            Some(note) = notes.recv() => show(note),
        }
    };
    while let Ok(note) = notes.try_recv() {
        show(note);
    }
    applied
}

/// A source that sends requests once there is a pod to answer them, and while nobody pauses them.
struct OnceDeployed {
    progress: watch::Receiver<Progress>,
    probe: Probe,
}

impl Source for OnceDeployed {
    async fn next(&mut self) -> Option<Seen> {
        loop {
            let sends = {
                let progress = self.progress.borrow_and_update();
                self.probe.set_rate(progress.conditions.rate);
                !progress.paused && !progress.held
            };
            self.probe.pause(!sends);
            // requests that are under way end in a pause, too
            select! {
                changed = self.progress.changed() => changed.ok()?,
                seen = Source::next(&mut self.probe) => return seen,
            }
        }
    }

    fn pause(&self, paused: bool) {
        self.probe.pause(paused);
    }

    fn last_failure(&self) -> Option<FailingAnswer> {
        self.probe.last_failure()
    }
}
