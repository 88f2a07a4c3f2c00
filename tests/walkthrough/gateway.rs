//! Measures what each section of docs/gateway.md says.

use std::{
    env,
    net::{SocketAddr, ToSocketAddrs},
};

use crate::{
    Outcome,
    chapter::Chapter,
    measure::{Cluster, Load, Tally, ask, ask_on_one_connection, eventually, kubectl, listed, name},
    sections::{Section, ensure, is_ready, load_images, no_preparation},
    shell::Shell,
    traces::Traces,
};

pub(crate) const GATEWAY: Chapter =
    Chapter { file: "docs/gateway.md", folders: &[FOLDER], missing, sections: SECTIONS };

const FOLDER: &str = "deployment/gateway";
const API: &str = "gateway.networking.k8s.io/v1";

const SECTIONS: &[Section] = &[
    Section { title: "Create", prepare: load_images, check: four_pods_answer },
    Section { title: "One per cent", prepare: no_preparation, check: one_per_cent_fails },
    Section { title: "Roll back", prepare: under_load, check: no_pod_is_deleted },
    Section {
        title: "Each request, not each connection",
        prepare: no_preparation,
        check: one_connection_reaches_several_pods,
    },
    Section { title: "Delete the canary", prepare: under_load, check: only_stable_is_left },
    Section { title: "When no canary pod is ready", prepare: no_preparation, check: its_share_gets_503 },
    Section { title: "Mend the canary", prepare: no_preparation, check: the_canary_is_ready_and_not_asked },
    Section { title: "Testers first", prepare: under_load, check: testers_are_judged_and_users_get_stable },
    Section { title: "Ten per cent", prepare: under_load, check: ten_per_cent_is_promoted },
    Section { title: "Fifty per cent", prepare: under_load, check: fifty_per_cent_is_promoted },
    Section { title: "A hundred per cent", prepare: under_load, check: only_the_canary_answers },
    Section { title: "Promote it", prepare: under_load, check: only_stable_is_left },
    Section {
        title: "Weights that follow the evidence",
        prepare: no_preparation,
        check: the_weights_have_followed_the_evidence,
    },
    Section { title: "Put the weights back", prepare: under_load, check: only_stable_is_left },
    Section { title: "Remove everything", prepare: no_preparation, check: nothing_is_left },
];

/// What the cluster lacks for this document.
///
/// # Errors
/// If something is missing although `GATEWAY` is set. A user who sets it expects that there is a gateway.
fn missing() -> Result<Option<String>, String> {
    let missing = missing_in_cluster()?;
    match (&missing, env::var("GATEWAY")) {
        (Some(missing), Ok(gateway)) if !gateway.is_empty() => {
            Err(format!("GATEWAY is set to {gateway}, but {missing}"))
        }
        _ => Ok(missing),
    }
}

fn missing_in_cluster() -> Result<Option<String>, String> {
    if !kubectl(&["api-versions"])?.lines().any(|version| version == API) {
        return Ok(Some(format!("the cluster does not know {API}")));
    }
    let manifest = format!("{FOLDER}/gateway.yaml");
    let path = "jsonpath={.spec.gatewayClassName}";
    let class = kubectl(&["create", "--dry-run=client", "-f", &manifest, "-o", path])?;
    let found = kubectl(&["get", "gatewayclass", &class, "--ignore-not-found", "-o", "name"])?;
    Ok(found.is_empty().then(|| format!("the cluster has no GatewayClass {class}, which {manifest} names")))
}

/// The gateway's address. The port is 80 unless the variable `GATEWAY` has one.
fn address(shell: &mut Shell) -> Result<SocketAddr, String> {
    let gateway = shell.variable("GATEWAY")?;
    let addresses = gateway.to_socket_addrs().or_else(|_| format!("{gateway}:80").to_socket_addrs());
    let first = addresses.map_err(|error| format!("GATEWAY={gateway}: {error}"))?.next();
    first.ok_or_else(|| format!("GATEWAY={gateway}: no address"))
}

/// Starts clients that must not lose a request while the commands run.
fn under_load(_: &Cluster, shell: &mut Shell) -> Option<Load> {
    address(shell).ok().map(Load::start)
}

/// The number of requests for measuring a share, on connections of each kind. At 10 %, the canary gets 100 of them, with
/// a standard deviation of √(1,000 · 0.1 · 0.9) = 9.5.
const SAMPLE: usize = 1000;
/// At 1 %, the canary gets 50 of these, with a standard deviation of √(5,000 · 0.01 · 0.99) = 7. So five standard
/// deviations distinguish 1 % from 0 % and from 2 %.
const LARGE_SAMPLE: usize = 5000;

/// Waits until this side answers this share of the requests with this status, within the limits of chance, and the
/// stable release answers all others with 200. Measures it on new connections and on a kept one.
///
/// The number is binomial, so five standard deviations on either side give one false alarm in a million runs.
/// (Gateways that take turns are closer.)
fn shared(shell: &mut Shell, share: f64, (side, status): (&str, u16)) -> Outcome {
    let address = address(shell)?;
    let sample = if share < 0.1 { LARGE_SAMPLE } else { SAMPLE };
    let mean = sample as f64 * share;
    let five = 5.0 * (mean * (1.0 - share)).sqrt();
    let holds = |tally: &Tally| {
        let its = tally.of(side, status);
        let others = if side == "stable" { 0 } else { tally.of("stable", 200) };
        (its as f64 - mean).abs() <= five && its + others == sample
    };
    let (mut on_new, mut on_kept) = (Tally::default(), Tally::default());
    let followed = eventually("the gateway follows the weights", || {
        (on_new, on_kept) = (ask(address, sample), ask_on_one_connection(address, sample));
        Ok(holds(&on_new) && holds(&on_kept))
    });
    let seen = format!("on new connections {}\n   on one connection {}", on_new.summary(), on_kept.summary());
    let wanted = format!("{mean:.0} ± {five:.0} of {sample} answered with {status} by {side}");
    followed.map_err(|error| format!("{error}: wanted {wanted}, saw {seen}"))?;
    Ok(format!("wanted {wanted}: {seen}"))
}

/// Waits until this release answers every request with 200.
fn only(shell: &mut Shell, release: &str) -> Outcome {
    shared(shell, 1.0, (release, 200))
}

fn judged(shell: &mut Shell, wanted: &str) -> Result<(), String> {
    let code = shell.variable("JUDGED")?;
    ensure(code == wanted, &format!("exit code {wanted} of the judge"), || code)
}

fn lost_none(load: Option<Load>, canary_fails: bool) -> Outcome {
    let during = load.ok_or("there was no load")?.end(canary_fails)?;
    Ok(format!("during it: {during}"))
}

/// How many pods with a label there are, and how many of them are ready.
fn pods(cluster: &Cluster, label: &str, value: &str) -> Result<(usize, usize), String> {
    let mut pods = cluster.pods()?;
    pods.retain(|pod| pod["metadata"]["labels"][label] == value);
    Ok((pods.len(), pods.iter().filter(|pod| is_ready(pod)).count()))
}

fn four_pods_answer(cluster: &Cluster, shell: &mut Shell, _: Option<Load>) -> Outcome {
    let (stable, canary) = (pods(cluster, "release", "stable")?, pods(cluster, "release", "canary")?);
    ensure((stable, canary) == ((3, 3), (1, 1)), "three stable pods and one canary, ready", || {
        format!("{stable:?} and {canary:?}")
    })?;
    let services: Vec<_> = cluster.objects("services")?.iter().map(name).collect();
    ensure(services == ["appinfo-canary", "appinfo-stable"], "the two Services", || format!("{services:?}"))?;
    let tally = ask(address(shell)?, 100);
    let expected = tally.of("stable", 200) + tally.of("canary", 500);
    ensure(expected == 100, "answers of both releases", || tally.summary())?;
    Ok(tally.summary())
}

fn one_per_cent_fails(_: &Cluster, shell: &mut Shell, _: Option<Load>) -> Outcome {
    judged(shell, "1")?;
    shared(shell, 0.01, ("canary", 500))
}

fn no_pod_is_deleted(cluster: &Cluster, shell: &mut Shell, load: Option<Load>) -> Outcome {
    let after = only(shell, "stable")?;
    let during = lost_none(load, true)?;
    let canary = pods(cluster, "canary", "broken")?;
    ensure(canary == (1, 1), "the canary's pod, ready", || format!("{canary:?}"))?;
    Ok(format!("{during}\n   after it: {after}"))
}

fn one_connection_reaches_several_pods(_: &Cluster, shell: &mut Shell, _: Option<Load>) -> Outcome {
    let mut pods = |of: &str| -> Result<(usize, String), String> {
        let said = shell.read(&format!("pods {of}"))?;
        Ok((said.lines().count(), said.trim_end().to_owned()))
    };
    let service = pods("$EXTERNAL_IP:$NODE_PORT")?;
    ensure(service.0 == 1, "one pod behind the Service", || service.1.clone())?;
    // a gateway that chooses at random leaves out a pod with a probability of 3 · (2/3)^30 = 0.00002
    let mut gateway = (0, String::new());
    let asked = eventually("the gateway reaches three pods", || {
        gateway = pods("$GATEWAY")?;
        Ok(gateway.0 == 3)
    });
    asked.map_err(|error| format!("{error}: saw {}", gateway.1))?;
    Ok(format!(
        "one connection to the Service reaches {}, one to the gateway:\n{}",
        service.1.trim(),
        gateway.1
    ))
}

fn its_share_gets_503(cluster: &Cluster, shell: &mut Shell, _: Option<Load>) -> Outcome {
    let canary = pods(cluster, "canary", "fixed")?;
    ensure(canary == (1, 0), "one pod of the canary, not ready", || format!("{canary:?}"))?;
    shared(shell, 0.1, ("unnamed", 503))
}

fn the_canary_is_ready_and_not_asked(cluster: &Cluster, shell: &mut Shell, _: Option<Load>) -> Outcome {
    let canary = pods(cluster, "canary", "fixed")?;
    ensure(canary.1 == 1, "a pod of the canary, ready", || format!("{canary:?}"))?;
    only(shell, "stable")
}

fn testers_are_judged_and_users_get_stable(_: &Cluster, shell: &mut Shell, load: Option<Load>) -> Outcome {
    let during = lost_none(load, false)?;
    judged(shell, "0")?;
    let users = shell.variable("USERS")?;
    ensure(users.contains("stable") && !users.contains("canary"), "only stable for users", || users.clone())?;
    Ok(format!("{during}\n   after it: {}", only(shell, "stable")?))
}

fn promoted_at(share: f64, shell: &mut Shell, load: Option<Load>) -> Outcome {
    let during = lost_none(load, false)?;
    judged(shell, "0")?;
    Ok(format!("{during}\n   after it: {}", shared(shell, share, ("canary", 200))?))
}

fn ten_per_cent_is_promoted(_: &Cluster, shell: &mut Shell, load: Option<Load>) -> Outcome {
    promoted_at(0.1, shell, load)
}

fn fifty_per_cent_is_promoted(_: &Cluster, shell: &mut Shell, load: Option<Load>) -> Outcome {
    promoted_at(0.5, shell, load)
}

fn only_the_canary_answers(cluster: &Cluster, shell: &mut Shell, load: Option<Load>) -> Outcome {
    let after = only(shell, "canary")?;
    let during = lost_none(load, false)?;
    let stable = pods(cluster, "release", "stable")?;
    ensure(stable == (3, 3), "three stable pods, ready", || format!("{stable:?}"))?;
    Ok(format!("{during}\n   after it: {after}"))
}

fn only_stable_is_left(cluster: &Cluster, shell: &mut Shell, load: Option<Load>) -> Outcome {
    let after = only(shell, "stable")?;
    let during = lost_none(load, false)?;
    let deployments: Vec<_> = cluster.objects("deployments")?.iter().map(name).collect();
    ensure(deployments == ["appinfo"], "only the Deployment appinfo", || format!("{deployments:?}"))?;
    let route = listed(&["get", "httproute", "appinfo", "-n", &cluster.namespace, "-o", "json"])?;
    let backends = &route[0]["spec"]["rules"][0]["backendRefs"];
    ensure(backends.as_array().is_some_and(|all| all.len() == 1), "one Service in the route", || {
        backends.to_string()
    })?;
    Ok(format!("{during}\n   after it: {after}"))
}

/// The decision on a canary, and its failed requests, as the page's `failed` printed them.
fn trial(shell: &mut Shell, variable: &str) -> Result<(String, u64), String> {
    let said = shell.variable(variable)?;
    let parts = said.split_once(", ").and_then(|(decision, rest)| {
        let failed = rest.strip_suffix(" failed requests of the canary")?.parse().ok()?;
        Some((decision.to_owned(), failed))
    });
    parts.ok_or_else(|| format!("{variable} is {said:?}"))
}

fn the_weights_have_followed_the_evidence(_: &Cluster, shell: &mut Shell, _: Option<Load>) -> Outcome {
    let after = only(shell, "canary")?;
    let names = ["BROKEN", "BROKEN_ON_A_LADDER", "FIVE", "FIVE_ON_A_LADDER", "WELL"];
    let trials = names.map(|name| trial(shell, name));
    let trials = trials.into_iter().collect::<Result<Vec<_>, _>>()?;
    let said = || names.iter().zip(&trials).map(|it| format!("{it:?}")).collect::<Vec<_>>().join(" ");
    let decisions: Vec<_> = trials.iter().map(|(decision, _)| decision.as_str()).collect();
    let wanted = ["roll_back", "roll_back", "roll_back", "roll_back", "promote"];
    ensure(decisions == wanted, &format!("{wanted:?}"), said)?;
    let failed: Vec<_> = trials.iter().map(|(_, failed)| *failed).collect();
    // 1 % of 100 a second for eight seconds, or for thirteen if the first five show too little, which is one run of ten; and
    // 10 % for eight seconds on the ladder: five standard deviations apart
    ensure(failed[0] < 40, "fewer than 40 failed requests of the dead canary", said)?;
    ensure(failed[0] < failed[1], "less than what the ladder costs", said)?;
    ensure(failed[4] == 0, "no failed request of the good canary", said)?;
    Ok(format!("{}\n   after it: {after}", said()))
}

fn nothing_is_left(cluster: &Cluster, _: &mut Shell, _: Option<Load>) -> Outcome {
    Traces::of(cluster, GATEWAY.folders.iter().copied()).gone()?;
    Ok("no Gateway, HTTPRoute, Deployment, Service or pod".to_owned())
}
