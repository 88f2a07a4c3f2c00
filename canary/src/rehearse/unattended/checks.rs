//! The checks after each step of the walkthrough.

use std::{
    collections::BTreeSet,
    ops::RangeInclusive,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{select, time::interval};

use crate::{
    rehearse::{
        cluster::Cluster,
        default_trial,
        load::{Wrong, summary},
        pod::NAMESPACE,
        steps::{FIRST_SHARE, FOLLOWED_EVERY, NEW_LABEL, REPLICAS, Step},
    },
    source::{
        Attribution, Response,
        probe::{Client, Limits, Pace, Probe, Service, Target},
    },
    trial::tally::{SeenPod, Tally},
};
use canary_judge::{Counts, Decision, Release, Verdict};

/// The result of a step: what was measured, or what was wrong.
pub(super) type Measured = Result<String, Wrong>;

/// The number of requests for a measurement.
const SAMPLE: u64 = 400;
/// The number of requests within which the judge must promote a canary that never fails. It needs about 350 of
/// its answers. A quarter of this number is 1000, with a standard deviation of 27.
const UNTIL_PROMOTED: u64 = 4000;
/// The number of requests for measuring a canary that fails a few of them. A quarter of these are its own. 5 %
/// of those are 50, with a standard deviation of 7.
const FAULTY_SAMPLE: u64 = 4000;
/// The number of requests within which the judge must roll back a canary that fails at least 5 % of its own. It
/// needs some hundreds.
const UNTIL_ROLLED_BACK: u64 = 8000;
/// The number of requests for measuring a share of 1 %. These are 20, with a standard deviation of 4.4.
const FIRST_SHARE_SAMPLE: u64 = 2000;
/// The number of requests within which a canary that never fails must get all of them, from 1 % on: about ten times as many as
/// it needs.
const UNTIL_ALL: u64 = 40_000;
/// The smallest share of failures that is certainly noticed within this many requests.
const SURELY_SEEN: f64 = 0.05;
/// The number of requests on one connection, which must all go to one pod.
const ON_ONE_CONNECTION: usize = 6;
/// Requests a second: as many as two busy cores can do, so that all steps end within a minute.
const RATE: f64 = 400.0;
/// A time limit longer than the longest delay that a label can set.
const TIMEOUT: Duration = Duration::from_secs(70);

/// Measures the cluster after a step.
pub(super) async fn check(step: Step, cluster: &Cluster) -> Measured {
    let size = match step {
        Step::FaultyCanary => FAULTY_SAMPLE,
        Step::FollowEvidence => FIRST_SHARE_SAMPLE,
        _ => SAMPLE,
    };
    let sample = Sample::of(cluster, size).await;
    sample.check_every_step(cluster)?;
    match step {
        Step::Deploy => sample.check_deployed(),
        Step::Scale => sample.check_scaled(cluster).await,
        Step::Relabel => sample.check_relabelled(cluster),
        Step::BrokenCanary => sample.check_broken_canary(&cluster.target()).await,
        Step::RollBack => sample.check_rolled_back(),
        Step::FixedCanary => sample.check_fixed_canary(&cluster.target()).await,
        Step::FaultyCanary => sample.check_faulty_canary(cluster).await,
        Step::FaultOver => sample.check_fault_over(&cluster.target()).await,
        Step::FollowEvidence => sample.check_following(cluster).await,
        Step::Promote | Step::CleanUp => sample.check_promoted(step),
    }
}

/// The results of some requests.
struct Sample {
    tally: Tally,
    stable: Counts,
    canary: Counts,
    /// The number of good answers with a namespace.
    with_namespace: u64,
    /// The results in words.
    told: String,
}

impl Sample {
    async fn of(cluster: &Cluster, size: u64) -> Self {
        let mut tally = Tally::new(Instant::now());
        let mut probe = start(&cluster.target(), size);
        while let Some(observation) = probe.next().await {
            tally.observe(&observation);
        }
        let (stable, canary) = (tally.of_release(Release::Stable), tally.of_release(Release::Canary));
        let telling = tally.pods().iter().filter(|(_, pod)| pod.namespace == NAMESPACE);
        let with_namespace = telling.map(|(_, pod)| pod.counts.successes()).sum();
        let told = summary(&tally);
        Self { tally, stable, canary, with_namespace, told }
    }

    fn pod_names(&self) -> BTreeSet<&str> {
        self.tally.pods().iter().map(|(name, _)| name).collect()
    }

    fn check_every_step(&self, cluster: &Cluster) -> Result<(), Wrong> {
        if self.tally.unsent() > 0 {
            return Err(Wrong::Shortage(self.told.clone()));
        }
        let (answered, running): (_, BTreeSet<_>) = (self.pod_names(), cluster.pod_names().collect());
        ensure(answered == running, &format!("answers of {running:?}"), &format!("those of {answered:?}"))?;
        let unanswered = self.tally.of(&Attribution::NoAnswer).requests;
        ensure(unanswered == 0, "an answer to each request", &self.told)?;
        Ok(ensure(self.stable.failures == 0, "no failure of the stable release", &self.told)?)
    }

    fn check_deployed(&self) -> Measured {
        let one_stable = self.stable.successes() == SAMPLE && self.pod_names().len() == 1;
        ensure(one_stable, "all answers from one stable pod", &self.told)?;
        let namespaces = self.with_namespace;
        ensure(namespaces == 0, "answers without a namespace", &format!("it in {namespaces}"))?;
        Ok(format!("{}; none tells the namespace", self.told))
    }

    async fn check_scaled(&self, cluster: &Cluster) -> Measured {
        let three_stable = self.stable.successes() == SAMPLE && self.pod_names().len() == REPLICAS;
        ensure(three_stable, "three stable pods", &self.told)?;
        let third = within_six_deviations(SAMPLE, 1.0 / 3.0);
        let each: Vec<_> = self.tally.pods().iter().map(|(_, pod)| pod.counts.successes()).collect();
        let even = each.iter().all(|share| third.contains(share));
        ensure(even, "a third from each", &format!("{each:?}"))?;
        let kept = on_one_connection(cluster).await?;
        Ok(format!(
            "{}, by pod {each:?}; on one connection, {ON_ONE_CONNECTION} answers of {kept} alone",
            self.told
        ))
    }

    fn check_relabelled(&self, cluster: &Cluster) -> Measured {
        let (label, value) = NEW_LABEL;
        let has_it = |pod: &SeenPod| pod.labels.get(label).is_some_and(|it| it == value);
        let with: Vec<_> =
            self.tally.pods().iter().filter(|(_, pod)| has_it(pod)).map(|(name, _)| name).collect();
        let wanted: Vec<_> = cluster.first_stable().map(|pod| pod.name.as_str()).into_iter().collect();
        ensure(with == wanted, &format!("{label} at {wanted:?} alone"), &format!("it at {with:?}"))?;
        Ok(format!("{}; the label in each answer of {}, and of no other pod", self.told, with.join(", ")))
    }

    async fn check_broken_canary(&self, target: &Target) -> Measured {
        ensure(self.canary.successes() == 0, "no good answer of the canary", &self.told)?;
        let quarter = within_six_deviations(SAMPLE, 0.25);
        let a_quarter_fails = quarter.contains(&self.canary.failures);
        ensure(a_quarter_fails, &format!("{quarter:?} failures"), &self.told)?;
        let verdict = judged(target, SAMPLE).await?;
        let decided = matches!(verdict.decision, Decision::RollBack { .. });
        ensure(decided, "a judge who says roll back", &verdict.to_string())?;
        Ok(format!("{}\n   judge: {verdict}", self.told))
    }

    fn check_rolled_back(&self) -> Measured {
        let all_stable = self.stable.successes() == SAMPLE;
        ensure(all_stable, "only good answers, all of the stable release", &self.told)?;
        Ok(format!("after it {}", self.told))
    }

    async fn check_fixed_canary(&self, target: &Target) -> Measured {
        self.check_all_good()?;
        let quarter = within_six_deviations(SAMPLE, 0.25);
        let of_canary = self.canary.successes();
        ensure(quarter.contains(&of_canary), &format!("{quarter:?} answers of the canary"), &self.told)?;
        let namespaces = self.with_namespace;
        let wanted = format!("the namespace in the canary's {of_canary} answers alone");
        ensure(namespaces == of_canary, &wanted, &format!("it in {namespaces}"))?;
        let verdict = promoted(target).await?;
        Ok(format!(
            "{}; {namespaces} tell the namespace, all of them the canary's\n   judge: {verdict}",
            self.told
        ))
    }

    async fn check_faulty_canary(&self, cluster: &Cluster) -> Measured {
        let failing = cluster.faults.percent / 100.0;
        let wanted = within_six_deviations(self.canary.requests, failing);
        let failures = self.canary.failures;
        ensure(wanted.contains(&failures), &format!("{wanted:?} failures of the canary"), &self.told)?;
        // a quarter of all answers are late, rounded to three digits
        let (delay, late) = (cluster.faults.delay_ms, self.tally.latencies().percentile(90));
        let is_late = late.is_some_and(|late| late.as_secs_f64() * 1000.0 >= 0.99 * delay);
        ensure(is_late, &format!("one answer of ten to take {delay} ms"), &format!("{late:?}"))?;
        let verdict = judged(&cluster.target(), UNTIL_ROLLED_BACK).await?;
        if failing >= SURELY_SEEN {
            let decided = matches!(verdict.decision, Decision::RollBack { .. });
            ensure(decided, "a judge who says roll back", &verdict.to_string())?;
        }
        Ok(format!("{}; {wanted:?} failures were to be expected\n   judge: {verdict}", self.told))
    }

    async fn check_fault_over(&self, target: &Target) -> Measured {
        self.check_all_good()?;
        let verdict = promoted(target).await?;
        Ok(format!("{}\n   judge: {verdict}", self.told))
    }

    async fn check_following(&self, cluster: &Cluster) -> Measured {
        let first = within_six_deviations(FIRST_SHARE_SAMPLE, FIRST_SHARE);
        let (seen, failed) = (self.canary.requests, self.canary.failures);
        ensure(first.contains(&seen), &format!("{first:?} answers of the canary"), &self.told)?;
        ensure(failed == 0, "no failure of the canary", &self.told)?;
        let followed = follow(cluster).await?;
        let after = Self::of(cluster, SAMPLE).await;
        cluster.set_canary_share(None); // the load of the next step begins before the step
        let alone = after.canary.successes() == SAMPLE;
        ensure(alone, "only good answers, all of the canary", &after.told)?;
        Ok(format!("{}; then its share was {followed}\n   measured: after it {}", self.told, after.told))
    }

    fn check_promoted(&self, step: Step) -> Measured {
        self.check_all_good()?;
        let namespaces = self.with_namespace;
        ensure(namespaces == SAMPLE, "the namespace in every answer", &format!("it in {namespaces}"))?;
        let canary_is_there = step == Step::Promote;
        let pods = self.pod_names();
        let stable_pods = pods.len() - usize::from(canary_is_there);
        ensure(stable_pods == REPLICAS, "three stable pods", &format!("{pods:?}"))?;
        let stable_alone = self.stable.successes() == SAMPLE;
        ensure(canary_is_there || stable_alone, "no answer of a canary", &self.told)?;
        Ok(format!("after it {}; {namespaces} tell the namespace", self.told))
    }

    fn check_all_good(&self) -> Result<(), String> {
        let good = self.stable.successes() + self.canary.successes();
        ensure(good == SAMPLE, "only good answers", &self.told)
    }
}

/// Lets the share of a canary that never fails follow the evidence until it gets all requests. Returns how it grew, in words.
async fn follow(cluster: &Cluster) -> Result<String, Wrong> {
    let mut trial = default_trial(RATE).map_err(|error| error.to_string())?;
    let mut probe = start(&cluster.target(), UNTIL_ALL);
    let (began, mut changes, mut shares) = (Instant::now(), interval(FOLLOWED_EVERY), Vec::new());
    loop {
        select! {
            observation = probe.next() => match observation {
                Some(observation) => trial.observe(&observation),
                None => break,
            },
            _ = changes.tick() => {
                let verdict = trial.verdict(Instant::now());
                cluster.set_canary_share(Some(verdict.max_share));
                shares.push(format!("{:.0} %", (verdict.max_share * 100.0).floor()));
                if verdict.max_share >= 1.0 {
                    let seconds = began.elapsed().as_secs_f64();
                    return Ok(format!("{} in {seconds:.0} s\n   judge: {verdict}", shares.join(", ")));
                }
            }
        }
    }
    if trial.tally().unsent() > 0 {
        return Err(Wrong::Shortage(summary(trial.tally())));
    }
    Err(format!("wanted all requests for the canary in the end, saw {}", shares.join(", ")).into())
}

fn ensure(holds: bool, wanted: &str, saw: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("wanted {wanted}, saw {saw}")) }
}

/// The range of the number of `requests` that go to one pod with this probability. The number is binomial, with
/// a standard deviation of √(n p (1 − p)). With a range of six on either side, all ranges of a run together give a
/// false alarm in some millions of runs. With 400 requests, 1/4 is still told from 1/2 and 1/10.
fn within_six_deviations(requests: u64, probability: f64) -> RangeInclusive<u64> {
    let mean = (requests as f64) * probability;
    let six = 6.0 * (mean * (1.0 - probability)).sqrt();
    let within = |count: &u64| ((*count as f64) - mean).abs() <= six;
    let first = (0..=requests).find(within).unwrap_or(0);
    let last = (0..=requests).rev().find(within).unwrap_or(requests);
    first..=last
}

fn start(target: &Target, count: u64) -> Probe {
    Probe::start(
        Service::plain(target.clone()),
        Pace { rate: RATE, limits: Limits::timeout(TIMEOUT), time: None, count: Some(count) },
    )
}

/// Sends requests until there is a decision, at most this many.
async fn judged(target: &Target, count: u64) -> Result<Verdict, Wrong> {
    let mut trial = default_trial(RATE).map_err(|error| error.to_string())?;
    let mut probe = start(target, count);
    while let Some(observation) = probe.next().await {
        trial.observe(&observation);
        if trial.decided(Instant::now()).is_some() {
            return Ok(trial.verdict(Instant::now()));
        }
    }
    if trial.tally().unsent() > 0 {
        return Err(Wrong::Shortage(summary(trial.tally())));
    }
    trial.end();
    Ok(trial.verdict(Instant::now()))
}

/// Sends requests until the judge promotes the canary.
async fn promoted(target: &Target) -> Result<Verdict, Wrong> {
    let verdict = judged(target, UNTIL_PROMOTED).await?;
    ensure(
        matches!(verdict.decision, Decision::Promote { .. }),
        "a judge who says promote",
        &verdict.to_string(),
    )?;
    Ok(verdict)
}

/// The name of the pod that answers all requests of one connection.
async fn on_one_connection(cluster: &Cluster) -> Result<String, Wrong> {
    let mut client = Client::keeping(Arc::new(Service::plain(cluster.target())));
    let mut names = BTreeSet::new();
    for _ in 0..ON_ONE_CONNECTION {
        match client.response(Limits::timeout(TIMEOUT)).await {
            Response::Answer(answer) => names.extend(answer.pod),
            Response::Unsent(why) => return Err(Wrong::Shortage(why)),
            other @ Response::NoAnswer(_) => {
                return Err(format!("wanted an answer on a kept connection, saw {other:?}").into());
            }
        }
    }
    let only_one = names.len() == 1 && client.connections() == 1;
    ensure(only_one, "one pod on one connection", &format!("{names:?} on {}", client.connections()))?;
    Ok(names.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_400_requests_a_half_and_a_tenth_are_no_quarter() {
        assert_eq!(within_six_deviations(400, 0.25), 49..=151);
        assert_eq!(within_six_deviations(400, 1.0 / 3.0), 77..=189);
        assert!(![200, 40].iter().any(|mean| within_six_deviations(400, 0.25).contains(mean)));
        assert_eq!(within_six_deviations(400, 1.0), 400..=400);
    }
}
