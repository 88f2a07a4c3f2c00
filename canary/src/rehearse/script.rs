//! The story unattended: each step, what was measured, and whether that is what README.md says.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    ops::RangeInclusive,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{select, sync::mpsc::UnboundedReceiver};

use super::{
    LEFT_OUT,
    clients::Load,
    cluster::Cluster,
    measure::{ask, judge, summary},
    pod::NAMESPACE,
    story::{NEW_LABEL, REPLICAS, Step},
};
use crate::{
    exit::Exit,
    judge::Decision,
    sample::{Client, Outcome},
    signals::Signals,
    tally::{Source, Tally},
};

/// What a step came to: what was measured, or what was wrong.
type Measured = Result<String, String>;

/// Requests that a share is measured with. The number that one of four pods gets of 400 is binomial, with a
/// standard deviation of √(400 · 1/4 · 3/4) = 8.7. Five of those either way leave a false alarm in a million
/// runs, and yet tell 1/4 from 1/3 and 1/6.
const SAMPLE: u64 = 400;
const QUARTER: RangeInclusive<u64> = 57..=143;
/// The same for one of three pods: 133 ± 5 · √(400 · 1/3 · 2/3).
const THIRD: RangeInclusive<u64> = 87..=180;
/// Requests within which the judge must have promoted a canary that never fails: it wants to see some 460
/// answers of it, and a quarter of so many are 1000, with a standard deviation of 27.
const UNTIL_PROMOTED: u64 = 4000;
/// Requests on one connection that must all go to one pod.
const ON_ONE_CONNECTION: usize = 6;

/// Goes through all steps.
pub(super) async fn run(
    mut cluster: Cluster,
    mut notes: UnboundedReceiver<String>,
    signals: &mut Signals,
) -> io::Result<Exit> {
    let start = Instant::now();
    let mut output = io::stdout();
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
            Err(wrong) => {
                eprintln!("canary: rehearse, \"{}\": {wrong}", step.title());
                return Ok(Exit::NotShown);
            }
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    writeln!(output, "\n{} steps in {seconds:.0} s, each as README.md says", Step::ALL.len())?;
    Ok(Exit::Done)
}

async fn take(step: Step, cluster: &mut Cluster) -> io::Result<Measured> {
    let load = if step.ends_pods() { Some(Load::start(&cluster.target()).await) } else { None };
    step.perform(cluster).await?;
    let during = match load {
        Some(load) => match load.end(step == Step::RollBack).await {
            Ok(seen) => format!("meanwhile {seen}\n   measured: "),
            Err(lost) => return Ok(Err(lost)),
        },
        None => String::new(),
    };
    Ok(check(step, cluster).await.map(|measured| during + &measured))
}

async fn check(step: Step, cluster: &Cluster) -> Measured {
    let target = cluster.target();
    let tally = ask(&target, SAMPLE).await;
    let (stable, canary) = (tally.of(&Source::Stable), tally.of(&Source::Canary));
    let told = summary(&tally);
    let answered: BTreeSet<_> = tally.pods().iter().map(|(name, _)| name).collect();
    let running: BTreeSet<_> = cluster.pod_names().collect();
    ensure(answered == running, &format!("answers of {running:?}"), &format!("those of {answered:?}"))?;
    ensure(tally.of(&Source::Nobody).total() + tally.unsent() == 0, "an answer to each request", &told)?;
    ensure(stable.failure == 0, "no failure of the stable release", &told)?;
    let namespaces = telling_the_namespace(&tally);
    match step {
        Step::Deploy => {
            ensure(
                stable.success == SAMPLE && answered.len() == 1,
                "all answers from one stable pod",
                &told,
            )?;
            ensure(namespaces == 0, "answers without a namespace", &format!("it in {namespaces}"))?;
            Ok(format!("{told}; none tells the namespace"))
        }
        Step::Scale => {
            ensure(stable.success == SAMPLE && answered.len() == REPLICAS, "three stable pods", &told)?;
            let each: Vec<_> = tally.pods().iter().map(|(_, pod)| pod.counts.success).collect();
            ensure(
                each.iter().all(|share| THIRD.contains(share)),
                "a third from each",
                &format!("{each:?}"),
            )?;
            let kept = on_one_connection(cluster).await?;
            Ok(format!(
                "{told}, by pod {each:?}; on one connection, {ON_ONE_CONNECTION} answers of {kept} alone"
            ))
        }
        Step::Relabel => {
            let (label, value) = NEW_LABEL;
            let with =
                |(_, pod): &(&str, &crate::tally::Pod)| pod.labels.get(label).is_some_and(|it| it == value);
            let with: Vec<_> = tally.pods().iter().filter(with).map(|(name, _)| name).collect();
            let wanted: Vec<_> = cluster.first_stable().map(|pod| pod.name.as_str()).into_iter().collect();
            ensure(with == wanted, &format!("{label} at {wanted:?} alone"), &format!("it at {with:?}"))?;
            Ok(format!("{told}; the label in each answer of {}, and of no other pod", with.join(", ")))
        }
        Step::BrokenCanary => {
            ensure(canary.success == 0, "no good answer of the canary", &told)?;
            ensure(QUARTER.contains(&canary.failure), &format!("{QUARTER:?} failures"), &told)?;
            let verdict = judge(&target, SAMPLE).await.map_err(|error| error.to_string())?.verdict();
            let decided = matches!(verdict.decision, Decision::RollBack { .. });
            ensure(decided, "a judge who says roll back", &verdict.to_string())?;
            Ok(format!("{told}\n   judge: {verdict}"))
        }
        Step::RollBack => {
            ensure(stable.success == SAMPLE, "only good answers, all of the stable release", &told)?;
            Ok(format!("after it {told}"))
        }
        Step::FixedCanary => {
            ensure(stable.success + canary.success == SAMPLE, "only good answers", &told)?;
            ensure(QUARTER.contains(&canary.success), &format!("{QUARTER:?} answers of the canary"), &told)?;
            let wanted = format!("the namespace in the canary's {} answers alone", canary.success);
            ensure(namespaces == canary.success, &wanted, &format!("it in {namespaces}"))?;
            let verdict = judge(&target, UNTIL_PROMOTED).await.map_err(|error| error.to_string())?.verdict();
            ensure(verdict.decision == Decision::Promote, "a judge who says promote", &verdict.to_string())?;
            Ok(format!(
                "{told}; {namespaces} tell the namespace, all of them the canary's\n   judge: {verdict}"
            ))
        }
        Step::Promote | Step::CleanUp => {
            ensure(stable.success + canary.success == SAMPLE, "only good answers", &told)?;
            ensure(namespaces == SAMPLE, "the namespace in every answer", &format!("it in {namespaces}"))?;
            let left = answered.len() - usize::from(step == Step::Promote);
            ensure(left == REPLICAS, "three stable pods", &format!("{answered:?}"))?;
            ensure(step == Step::Promote || stable.success == SAMPLE, "no answer of a canary", &told)?;
            Ok(format!("after it {told}; {namespaces} tell the namespace"))
        }
    }
}

fn ensure(holds: bool, wanted: &str, saw: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("wanted {wanted}, saw {saw}")) }
}

fn telling_the_namespace(tally: &Tally) -> u64 {
    tally.pods().iter().filter(|(_, pod)| pod.namespace == NAMESPACE).map(|(_, pod)| pod.counts.success).sum()
}

/// The name of the pod that answers all requests of one connection.
async fn on_one_connection(cluster: &Cluster) -> Result<String, String> {
    let mut client = Client::keeping(Arc::new(cluster.target()));
    let mut names = BTreeSet::new();
    for _ in 0..ON_ONE_CONNECTION {
        match client.observe(Duration::from_secs(10)).await.outcome {
            Outcome::Answer(answer) => names.extend(answer.served_by),
            other => return Err(format!("wanted an answer on a kept connection, saw {other:?}")),
        }
    }
    let only_one = names.len() == 1 && client.connections() == 1;
    ensure(only_one, "one pod on one connection", &format!("{names:?} on {}", client.connections()))?;
    Ok(names.into_iter().collect())
}
