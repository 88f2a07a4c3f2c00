//! Measures what each section of the README's walkthrough says.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use serde_json::Value;

use crate::{
    Outcome,
    chapter::Chapter,
    measure::{Cluster, Load, Tally, ask, eventually, kubectl, name, service},
    shell::Shell,
    traces::Traces,
};

/// A section that has commands.
pub(crate) struct Section {
    pub(crate) title: &'static str,
    /// Runs before its commands.
    pub(crate) prepare: fn(&Cluster, &mut Shell) -> Option<Load>,
    /// Runs after them.
    pub(crate) check: fn(&Cluster, &mut Shell, Option<Load>) -> Outcome,
}

/// The number of requests for measuring a share. The share of a canary beside three pods is 1/4. The number of its
/// requests among 400 is binomial, with a standard deviation of √(400 · 1/4 · 3/4) = 8.7. Five standard deviations on
/// either side give one false alarm in a million runs, and still exclude a share of 1/10 or 1/2. (kube-proxy may also
/// take turns, which is closer.)
const SAMPLE: usize = 400;
const QUARTER: std::ops::RangeInclusive<usize> = 57..=143;

/// The number of requests for measuring a canary that fails 5 % of its requests. It gets a quarter of them, of which 50
/// fail, with a standard deviation of 7.
const FAULTY_SAMPLE: usize = 4000;
/// The share of its requests that the canary fails with the label `fault-percent=5`.
const FAULTY: f64 = 0.05;

pub(crate) fn no_preparation(_: &Cluster, _: &mut Shell) -> Option<Load> {
    None
}

/// Loads the images of the manifests, because a run of this document alone has not built and loaded them.
pub(crate) fn load_images(_: &Cluster, shell: &mut Shell) -> Option<Load> {
    let images = "$(sed -n 's/^ *image: *//p' ${MANIFESTS:-deployment}/*.yaml)";
    if let Err(error) = shell.run_hook("LOAD_IMAGES", images) {
        println!("   LOAD_IMAGES: {error}");
    }
    None
}

/// Starts clients that must not lose a request while the commands run.
fn under_load(cluster: &Cluster, _: &mut Shell) -> Option<Load> {
    address_of_service(cluster).ok().map(Load::start)
}

pub(crate) const README: Chapter = Chapter {
    file: "README.md",
    folders: &["deployment/monitoring"],
    missing: || Ok(None),
    sections: SECTIONS,
};

const SECTIONS: &[Section] = &[
    Section { title: "Build the images", prepare: no_preparation, check: images },
    Section { title: "Deploy", prepare: no_preparation, check: one_pod },
    Section { title: "Talk to a pod", prepare: no_preparation, check: pod_answers },
    Section { title: "Change a label", prepare: no_preparation, check: label_arrived },
    Section { title: "Create the Service", prepare: no_preparation, check: service_exists },
    Section { title: "Reach it", prepare: no_preparation, check: service_answers },
    Section { title: "Scale", prepare: no_preparation, check: three_pods_answer },
    Section { title: "Deploy the broken canary", prepare: no_preparation, check: a_quarter_fails },
    Section { title: "Judge its pods", prepare: no_preparation, check: the_pods_were_judged },
    Section { title: "Monitoring", prepare: no_preparation, check: prometheus_sees_the_canary },
    Section { title: "Judge it in the cluster", prepare: no_preparation, check: the_judge_sees_all_pods },
    Section { title: "Roll back", prepare: under_load, check: none_fails },
    Section {
        title: "Deploy the fixed canary",
        prepare: no_preparation,
        check: a_quarter_tells_the_namespace,
    },
    Section {
        title: "Make some requests fail",
        prepare: no_preparation,
        check: as_many_fail_as_the_label_says,
    },
    Section { title: "Let the judge decide", prepare: no_preparation, check: the_judge_told_both_apart },
    Section { title: "Promote it", prepare: under_load, check: all_tell_the_namespace },
    Section { title: "Clean up the canary", prepare: under_load, check: only_stable_is_left },
    Section { title: "Remove everything", prepare: no_preparation, check: nothing_is_left },
];

pub(crate) fn ensure(holds: bool, wanted: &str, saw: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("wanted {wanted}, saw {}", saw())) }
}

fn images(_: &Cluster, shell: &mut Shell, _: Option<Load>) -> Outcome {
    let (image, judge) = (shell.variable("IMAGE")?, shell.variable("JUDGE_IMAGE")?);
    let loaded = shell.run_hook("LOAD_IMAGES", &format!("{image}:1 {image}:2 {image}:3 {judge}:1"))?;
    for (folder, images) in [("deployment", 3), ("deployment/judge", 1)] {
        let kustomized = kubectl(&["kustomize", folder])?;
        let named = kustomized
            .lines()
            .filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("image: "));
        let named: BTreeSet<_> = named.collect();
        ensure(named.len() == images, &format!("{images} images of {folder}/Kustomization"), || {
            format!("{named:?}")
        })?;
    }
    Ok(format!("{image}:1 to :3, {judge}:1{}", if loaded.is_some() { ", loaded" } else { "" }))
}

fn one_pod(cluster: &Cluster, _: &mut Shell, _: Option<Load>) -> Outcome {
    let pods = cluster.pods()?;
    let ready = pods.iter().filter(|pod| is_ready(pod)).count();
    ensure((pods.len(), ready) == (1, 1), "one pod, ready", || {
        format!("{} pods, {ready} ready", pods.len())
    })?;
    Ok(format!("pod {} is ready", name(&pods[0])))
}

pub(crate) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
}

/// The answer of the pod at the other end of the port-forward.
fn ask_pod(shell: &mut Shell) -> Result<Value, String> {
    let answer = shell.read("curl -s localhost:8080/v1/appinfo")?;
    serde_json::from_str(&answer).map_err(|error| format!("{answer:?}: {error}"))
}

fn pod_answers(cluster: &Cluster, shell: &mut Shell, _: Option<Load>) -> Outcome {
    let (answer, pod) = (ask_pod(shell)?, &cluster.pods()?[0]);
    // Kubernetes copies some labels of the node to the pod since 1.35
    let mut labels = pod["metadata"]["labels"].as_object().ok_or("the pod has no labels")?.clone();
    labels.retain(|label, _| label != "app" && label != "release");
    ensure(labels.contains_key("pod-template-hash"), "a label pod-template-hash", || format!("{labels:?}"))?;
    let wanted = serde_json::json!({
        "PodName": name(pod), "AppName": "appinfo", "Namespace": "", "Release": "stable", "Labels": labels,
    });
    ensure(answer == wanted, &wanted.to_string(), || answer.to_string())?;
    Ok(format!("the pod answers {answer}"))
}

fn label_arrived(_: &Cluster, shell: &mut Shell, _: Option<Load>) -> Outcome {
    // the block ends only when an answer has the label
    shell.run("wait $PORT_FORWARD || true\n")?;
    let forwarded = shell.read("if curl -s localhost:8080/v1/appinfo; then echo still there; fi")?;
    ensure(forwarded.is_empty(), "the port-forward to have ended", || forwarded.clone())?;
    Ok("the label arrived, and the port-forward has ended".to_owned())
}

pub(crate) fn address_of_service(cluster: &Cluster) -> Result<SocketAddr, String> {
    let services = cluster.objects("services")?;
    let service_object = services.first().ok_or("there is no Service")?;
    let port = service_object["spec"]["ports"][0]["nodePort"].to_string();
    let host = std::env::var("EXTERNAL_IP").unwrap_or_else(|_| "127.0.0.1".to_owned());
    service(&host, &port)
}

fn service_exists(cluster: &Cluster, _: &mut Shell, _: Option<Load>) -> Outcome {
    let service = cluster.objects("services")?.into_iter().next().ok_or("there is no Service")?;
    ensure(name(&service) == "appinfo", "a Service called appinfo", || name(&service))?;
    let kind = &service["spec"]["type"];
    ensure(kind == "NodePort", "type NodePort", || kind.to_string())?;
    Ok(format!("port {} of every node", service["spec"]["ports"][0]["nodePort"]))
}

fn service_answers(cluster: &Cluster, shell: &mut Shell, _: Option<Load>) -> Outcome {
    let (host, port) = (shell.variable("EXTERNAL_IP")?, shell.variable("NODE_PORT")?);
    let address = service(&host, &port)?;
    let wanted = address_of_service(cluster)?;
    ensure(address == wanted, &format!("the address {wanted}"), || address.to_string())?;
    let tally = ask(address, 10);
    ensure(tally.of("stable", 200) == 10, "ten good answers", || tally.summary())?;
    Ok(format!("{address}: {}", tally.summary()))
}

/// Waits until the Service spreads requests over all pods, which takes a moment, and then sends requests to it.
fn ask_service(cluster: &Cluster) -> Result<Tally, String> {
    ask_service_often(cluster, SAMPLE)
}

fn ask_service_often(cluster: &Cluster, requests: usize) -> Result<Tally, String> {
    let address = address_of_service(cluster)?;
    cluster.settled()?;
    let pods: BTreeSet<_> = cluster.pods()?.iter().map(name).collect();
    eventually("the Service spreads over all pods", || {
        Ok(ask(address, 40).pods.into_keys().collect::<BTreeSet<_>>() == pods)
    })?;
    let tally = ask(address, requests);
    let answered: BTreeSet<_> = tally.pods.keys().cloned().collect();
    ensure(answered == pods, &format!("answers from {pods:?}"), || format!("{answered:?}"))?;
    Ok(tally)
}

fn three_pods_answer(cluster: &Cluster, shell: &mut Shell, _: Option<Load>) -> Outcome {
    let tally = ask_service(cluster)?;
    ensure(tally.of("stable", 200) == SAMPLE, "only good answers", || tally.summary())?;
    ensure(tally.pods.len() == 3, "three pods", || format!("{:?}", tally.pods))?;
    let (host, port) = (shell.variable("EXTERNAL_IP")?, shell.variable("NODE_PORT")?);
    let url = format!("{host}:{port}/v1/appinfo");
    let kept = shell.read(&format!("curl -s {url} {url} {url} {url} {url} {url}"))?;
    let names: BTreeSet<_> = kept.lines().collect();
    ensure((kept.lines().count(), names.len()) == (6, 1), "one pod on one connection", || kept.clone())?;
    Ok(format!("{:?}, and one of them on one connection", tally.pods))
}

/// The output of `canary judge` for the Service. It is an error if its exit code is not `wanted`.
fn judged(shell: &mut Shell, wanted: u8) -> Outcome {
    let command = "cargo run -q -p canary -- judge http://$EXTERNAL_IP:$NODE_PORT --rate 50 2>/dev/null";
    let said = shell.read(&format!("{command} && echo 'exit code 0' || echo \"exit code $?\""))?;
    ensure(said.ends_with(&format!("exit code {wanted}\n")), &format!("exit code {wanted}"), || {
        said.clone()
    })?;
    Ok(format!("   canary judge: {}", said.trim_end().replace('\n', "\n   ")))
}

fn a_quarter_fails(cluster: &Cluster, shell: &mut Shell, _: Option<Load>) -> Outcome {
    let tally = ask_service(cluster)?;
    let failed = tally.of("canary", 500);
    ensure(tally.of("stable", 200) + failed == SAMPLE, "failures of the canary alone", || tally.summary())?;
    ensure(QUARTER.contains(&failed), &format!("{QUARTER:?} failures"), || tally.summary())?;
    Ok(format!("{}\n{}", tally.summary(), judged(shell, 1)?))
}

fn the_pods_were_judged(_: &Cluster, shell: &mut Shell, _: Option<Load>) -> Outcome {
    let code = shell.variable("PODS")?;
    ensure(code == "1", "exit code 1", || code.clone())?;
    let left = shell.read("ls -d \"${TMPDIR:-/tmp}\"/canary-kubectl-* 2>/dev/null || true")?;
    ensure(left.is_empty(), "no socket of kubectl proxy", || left.clone())?;
    Ok(format!("exit code {code} by the pods' own answers"))
}

/// Prometheus' answer to a query: the values, by the value of this label.
fn query(text: &str, label: &str) -> Result<BTreeMap<String, f64>, String> {
    let answer = kubectl(&[
        "exec",
        "deployment/prometheus",
        "--",
        "promtool",
        "query",
        "instant",
        "--format=json",
        "http://localhost:9090",
        text,
    ])?;
    let samples: Vec<Value> = serde_json::from_str(&answer).map_err(|error| format!("{answer}: {error}"))?;
    let sample = |sample: &Value| {
        let value = sample["value"][1].as_str().and_then(|value| value.parse().ok());
        Some((sample["metric"][label].as_str().unwrap_or_default().to_owned(), value?))
    };
    Ok(samples.iter().filter_map(sample).collect())
}

fn prometheus_sees_the_canary(_: &Cluster, _: &mut Shell, _: Option<Load>) -> Outcome {
    // the alerts first, because the traffic has just ended
    let alerts = query("ALERTS{alertstate=\"firing\"}", "alertname")?;
    let pods = query("count by (release) (up == 1)", "release")?;
    let wanted = BTreeMap::from([("canary".to_owned(), 1.0), ("stable".to_owned(), 3.0)]);
    ensure(pods == wanted, &format!("pods found: {wanted:?}"), || format!("{pods:?}"))?;
    // The last minute has about 500 requests of the README's block, and 200 on a busy machine. Five standard deviations
    // of the share of 200 are 0.15.
    let share = query("release:http_requests:share_rate1m", "release")?;
    let canary = share.get("canary").copied().unwrap_or_default();
    ensure((0.1..=0.45).contains(&canary), "a quarter of the traffic at the canary", || {
        format!("{share:?}")
    })?;
    let errors = query("release:http_request_errors:ratio_rate1m", "release")?;
    let wanted = BTreeMap::from([("canary".to_owned(), 1.0), ("stable".to_owned(), 0.0)]);
    ensure(errors == wanted, &format!("error ratios {wanted:?}"), || format!("{errors:?}"))?;
    let exported = query("count({exported_release=~\".+\"})", "")?;
    ensure(exported.is_empty(), "no label exported_release", || format!("{exported:?}"))?;
    ensure(alerts.contains_key("CanaryFailsMoreOften"), "the canary's alert", || format!("{alerts:?}"))?;
    Ok(format!("shares {share:?}, error ratios {errors:?}, firing: {:?}", alerts.keys().collect::<Vec<_>>()))
}

/// The names of the pods that the judge's server has seen, and its decision.
fn seen_by_the_judge(shell: &mut Shell) -> Result<(BTreeSet<String>, Value), String> {
    // curl reports an error when grep ends
    let events =
        shell.read("curl -sN --max-time 20 localhost:8090/v1/events | grep -m 1 '^data:.*\"pods\":'")?;
    let state = events.trim_start_matches("data:");
    let state: Value = serde_json::from_str(state).map_err(|error| format!("{state:?}: {error}"))?;
    let pods = state["pods"].as_array().ok_or_else(|| format!("no pods: {state}"))?;
    let name = |pod: &Value| pod["name"].as_str().unwrap_or_default().to_owned();
    Ok((pods.iter().map(name).collect(), state["decision"].clone()))
}

fn the_judge_sees_all_pods(cluster: &Cluster, shell: &mut Shell, _: Option<Load>) -> Outcome {
    let code = shell.variable("JOB_EXIT_CODE")?;
    ensure(code == "1", "exit code 1 of the Job", || code.clone())?;
    let pods: BTreeSet<_> = cluster.pods()?.iter().map(name).collect();
    ensure(pods.len() == 4, "three pods and a canary", || format!("{pods:?}"))?;
    let mut seen = Default::default();
    eventually("the judge's server sees all pods, and says roll back", || {
        seen = seen_by_the_judge(shell)?;
        Ok(seen == (pods.clone(), "roll_back".into()))
    })?;
    let page = shell.read("curl -sS localhost:8090/")?;
    ensure(page.to_lowercase().starts_with("<!doctype html>"), "a page", || page.clone())?;
    Ok(format!("exit code {code} of the Job; the page shows {:?} and says {}", seen.0, seen.1))
}

fn none_fails(cluster: &Cluster, _: &mut Shell, load: Option<Load>) -> Outcome {
    cluster.settled()?;
    let during = load.ok_or("there was no load")?.end(true)?;
    let after = ask_service(cluster)?;
    ensure(after.of("stable", 200) == SAMPLE, "only good answers", || after.summary())?;
    let judge = kubectl(&[
        "get",
        "jobs,deployments,services,pods",
        "-n",
        &cluster.namespace,
        "-l",
        "app=judge",
        "-o",
        "name",
    ])?;
    ensure(judge.is_empty(), "no judge any more", || judge.clone())?;
    Ok(format!("during it: {during}\n   after it: {}", after.summary()))
}

fn a_quarter_tells_the_namespace(cluster: &Cluster, shell: &mut Shell, _: Option<Load>) -> Outcome {
    let tally = ask_service(cluster)?;
    let canary = tally.of("canary", 200);
    ensure(tally.of("stable", 200) + canary == SAMPLE, "only good answers", || tally.summary())?;
    let told = tally.namespaces.get(&cluster.namespace).copied().unwrap_or(0);
    ensure(told == canary, "the namespace in each answer of the canary", || {
        format!("{:?}", tally.namespaces)
    })?;
    ensure(QUARTER.contains(&canary), &format!("{QUARTER:?} answers of the canary"), || tally.summary())?;
    Ok(format!("{} by namespace: {:?}\n{}", tally.summary(), tally.namespaces, judged(shell, 0)?))
}

fn as_many_fail_as_the_label_says(cluster: &Cluster, _: &mut Shell, _: Option<Load>) -> Outcome {
    let tally = ask_service_often(cluster, FAULTY_SAMPLE)?;
    let (good, failed) = (tally.of("canary", 200), tally.of("canary", 500));
    ensure(tally.of("stable", 200) + good + failed == FAULTY_SAMPLE, "failures of the canary alone", || {
        tally.summary()
    })?;
    // binomial: six standard deviations on either side, because the distribution is not symmetric
    let mean = (good + failed) as f64 * FAULTY;
    let six = 6.0 * (mean * (1.0 - FAULTY)).sqrt();
    ensure((failed as f64 - mean).abs() <= six, &format!("{mean:.0} ± {six:.0} failures"), || {
        tally.summary()
    })?;
    let mut errors = BTreeMap::new();
    // a rule that was evaluated after the first few of these requests may have a greater ratio
    let seen = eventually("Prometheus sees few failures of the canary", || {
        errors = query("release:http_request_errors:ratio_rate1m", "release")?;
        Ok(errors.get("canary").is_some_and(|ratio| *ratio > 0.0 && *ratio < 4.0 * FAULTY))
    });
    seen.map_err(|error| format!("{error}: saw {errors:?}"))?;
    ensure(errors.get("stable") == Some(&0.0), "no failure of the stable release", || format!("{errors:?}"))?;
    Ok(format!(
        "{}, {mean:.0} ± {six:.0} failures were to be expected; error ratios {errors:?}",
        tally.summary()
    ))
}

fn the_judge_told_both_apart(cluster: &Cluster, shell: &mut Shell, _: Option<Load>) -> Outcome {
    let (with, without) = (shell.variable("WITH_FAULT")?, shell.variable("WITHOUT_FAULT")?);
    ensure((&*with, &*without) == ("1", "0"), "exit code 1 with the fault, 0 without", || {
        format!("{with:?} and {without:?}")
    })?;
    let tally = ask_service(cluster)?;
    let good = tally.of("stable", 200) + tally.of("canary", 200);
    ensure(good == SAMPLE, "only good answers", || tally.summary())?;
    Ok(format!("exit code {with} with the fault, {without} without it; {}", tally.summary()))
}

fn all_tell_the_namespace(cluster: &Cluster, _: &mut Shell, load: Option<Load>) -> Outcome {
    cluster.settled()?;
    let during = load.ok_or("there was no load")?.end(false)?;
    let after = ask_service(cluster)?;
    let told = after.namespaces.get(&cluster.namespace).copied().unwrap_or(0);
    ensure(told == SAMPLE, "the namespace in every answer", || format!("{:?}", after.namespaces))?;
    ensure(after.of("stable", 200) + after.of("canary", 200) == SAMPLE, "only good answers", || {
        after.summary()
    })?;
    Ok(format!("during it: {during}\n   after it: {}", after.summary()))
}

fn only_stable_is_left(cluster: &Cluster, shell: &mut Shell, load: Option<Load>) -> Outcome {
    let measured = all_tell_the_namespace(cluster, shell, load)?;
    let deployments: Vec<_> = cluster.objects("deployments")?.iter().map(name).collect();
    ensure(deployments == ["appinfo"], "only the Deployment appinfo", || format!("{deployments:?}"))?;
    let pods = cluster.pods()?;
    ensure(pods.len() == 3, "three pods", || format!("{}", pods.len()))?;
    Ok(measured)
}

fn nothing_is_left(cluster: &Cluster, _: &mut Shell, _: Option<Load>) -> Outcome {
    Traces::of(cluster, README.folders.iter().copied()).gone()?;
    Ok("no Deployment, Service or pod".to_owned())
}
