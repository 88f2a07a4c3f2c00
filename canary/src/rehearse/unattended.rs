//! The walkthrough unattended: each step, what was measured, and whether it is what README.md and docs/gateway.md say.

mod checks;

use std::{
    io::{self, Write},
    pin::pin,
    time::Instant,
};

use tokio::{select, sync::mpsc::UnboundedReceiver};

use self::checks::{Measured, check};
use super::{
    LEFT_OUT,
    cluster::Cluster,
    load::{Load, Wrong},
    steps::Step,
};
use crate::{exit::Exit, messages::message, output::output, signals::Signals};

/// Goes through all steps.
pub(super) async fn run(
    mut cluster: Cluster,
    mut notes: UnboundedReceiver<String>,
    mut signals: Signals,
) -> io::Result<Exit> {
    let start = Instant::now();
    let mut output = output();
    writeln!(output, "The Service is {}\n{LEFT_OUT}", cluster.target())?;
    for step in Step::ALL {
        let began = Instant::now();
        writeln!(output, "\n== {}", step.title())?;
        for command in step.commands(&cluster) {
            writeln!(output, "   $ {command}")?;
        }
        let measured = {
            let mut taken = pin!(take(step, &mut cluster));
            loop {
                select! {
                    biased;
                    Some(note) = notes.recv() => writeln!(output, "   {note}")?,
                    measured = &mut taken => break measured?,
                    signal = signals.next() => return Ok(signal),
                }
            }
        };
        match measured {
            Ok(measured) => {
                writeln!(output, "   measured: {measured} ({:.1} s)", began.elapsed().as_secs_f64())?;
            }
            Err(wrong) => return Ok(ended_by(wrong, step, &cluster)),
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    writeln!(output, "\n{} steps in {seconds:.0} s, each as the documents say", Step::ALL.len())?;
    Ok(Exit::Done)
}

/// Reports a wrong result. If this machine has a shortage, the result tells nothing about the walkthrough.
fn ended_by(wrong: Wrong, step: Step, cluster: &Cluster) -> Exit {
    let (text, shortage) = match wrong {
        Wrong::Shortage(text) => (text, Some("requests could not be sent".to_owned())),
        Wrong::Differs(text) => (text, cluster.shortage()),
    };
    message(format_args!("rehearse, \"{}\": {text}", step.title()));
    let Some(shortage) = shortage else { return Exit::NotShown };
    message(format_args!("this machine has a shortage, so the step shows nothing: {shortage}"));
    Exit::Failed
}

async fn take(step: Step, cluster: &mut Cluster) -> io::Result<Measured> {
    let load = if step.ends_pods() { Some(Load::start(&cluster.target()).await) } else { None };
    step.apply(cluster).await?;
    let during = match load {
        Some(load) => match load.end(step == Step::RollBack).await {
            Ok(seen) => format!("meanwhile {seen}\n   measured: "),
            Err(lost) => return Ok(Err(lost)),
        },
        None => String::new(),
    };
    Ok(check(step, cluster).await.map(|measured| during + &measured))
}
