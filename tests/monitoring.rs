//! The configuration and rules of deployment/monitoring/, tested with a real Prometheus and real processes. Needs
//! `prometheus` and `promtool`, for example from Debian's package `prometheus`.

mod common;

use std::{
    env, fs,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use common::{
    manifests::documents,
    process::{Process, command},
};
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::Value;
use tempfile::TempDir;
use testkit::{eventually_within, http::get, labels::LabelDir, prometheus::Prometheus};

const STABLE_PODS: usize = 3;

/// How long to wait for alerts and recording rules. Rules over days are evaluated every 30 s.
const PATIENCE: Duration = Duration::from_secs(400);

/// Waits for a condition, and sends one request to each of `targets` before each check. Returns how long it took.
fn eventually(what: &str, targets: &[SocketAddr], mut condition: impl FnMut() -> bool) -> Duration {
    eventually_within(PATIENCE, what, || {
        for &target in targets {
            get(target, "/v1/appinfo").expect("an answer");
        }
        thread::sleep(Duration::from_millis(30)); // leaves the processors to Prometheus
        condition()
    })
}

fn config_map() -> ConfigMap {
    let mut all = documents("deployment/monitoring").into_iter().filter(|d| d.kind == "ConfigMap");
    all.next().expect("a ConfigMap").typed()
}

/// A folder with the files of the `ConfigMap`. Debian's Prometheus has no discovery of pods, so the file
/// `targets.json` replaces it. Everything else is unchanged.
fn config_folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let mut files = config_map().data.expect("files");
    let shipped = files.get_mut("prometheus.yml").expect("the configuration");
    let mut config: serde_yaml_ng::Value = serde_yaml_ng::from_str(shipped).expect("YAML");
    let [job] = config["scrape_configs"].as_sequence_mut().expect("jobs").as_mut_slice() else {
        panic!("one job")
    };
    let job = job.as_mapping_mut().expect("a job");
    job.remove("kubernetes_sd_configs").expect("discovery of pods");
    let by_file = serde_yaml_ng::from_str("[{files: [targets.json]}]").expect("YAML");
    job.insert("file_sd_configs".into(), by_file);
    *shipped = serde_yaml_ng::to_string(&config).expect("YAML");
    for (name, text) in files {
        fs::write(folder.path().join(name), text).expect("a file");
    }
    write_targets(folder.path(), &[]);
    folder
}

/// Replaces the list of pods that Prometheus discovers.
fn write_targets(folder: &Path, targets: &[Value]) {
    let new = folder.join("new");
    fs::write(&new, serde_json::to_vec(targets).expect("JSON")).expect("a file");
    fs::rename(new, folder.join("targets.json")).expect("renamed");
}

/// A container port with the labels of Prometheus' Kubernetes discovery, role `pod`
/// (<https://prometheus.io/docs/prometheus/latest/configuration/configuration/#pod>).
fn container_port(
    address: SocketAddr,
    port: &str,
    app: &str,
    release: &str,
    pod: &str,
    phase: &str,
) -> Value {
    serde_json::json!({"targets": [address], "labels": {
        "__meta_kubernetes_namespace": "default",
        "__meta_kubernetes_pod_container_name": "appinfo-containers",
        "__meta_kubernetes_pod_container_port_name": port,
        "__meta_kubernetes_pod_label_app": app,
        "__meta_kubernetes_pod_label_release": release,
        "__meta_kubernetes_pod_name": pod,
        "__meta_kubernetes_pod_phase": phase,
    }})
}

/// Runs promtool, which must succeed. Returns its output.
fn promtool(folder: &Path, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("promtool")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed");
    child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
    said
}

/// Builds a binary with this implementation, independent of the features of this test.
fn appinfo_with(feature: &str) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().expect("no panic");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("implementations");
    let status = Command::new(env::var_os("CARGO").expect("run by cargo"))
        .args(["build", "--quiet", "--frozen", "-p", "appinfo", "--no-default-features"])
        .args(["--features", feature])
        .arg("--target-dir")
        .arg(&folder)
        .status();
    assert!(status.expect("cargo runs").success(), "cannot build {feature}");
    let binary = folder.join(feature);
    let copy = folder.join("copy"); // renamed afterwards, since another test may be running the old binary
    fs::copy(folder.join("debug/appinfo"), &copy).expect("the binary");
    fs::rename(copy, &binary).expect("renamed");
    binary
}

/// The value of a recording rule for a release.
fn value(prometheus: &Prometheus, rule: &str, release: &str) -> Option<f64> {
    let series = prometheus.query(&format!("{rule}{{app=\"appinfo\",release=\"{release}\"}}"));
    assert!(series.len() < 2, "{rule}: {series:?}");
    series.first().map(|(_, value)| *value)
}

/// Name, labels and summary of each firing alert.
fn firing(prometheus: &Prometheus) -> Vec<(String, Value, String)> {
    let data = prometheus.api("alerts");
    let alerts = data["alerts"].as_array().expect("alerts").iter();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let alerts = alerts.filter(|alert| alert["state"] == "firing");
    alerts
        .map(|alert| {
            let labels = &alert["labels"];
            (text(&labels["alertname"]), labels.clone(), text(&alert["annotations"]["summary"]))
        })
        .collect()
}

fn fires(prometheus: &Prometheus, name: &str) -> bool {
    firing(prometheus).iter().any(|(other, ..)| other == name)
}

/// A pod of a release.
struct Pod {
    name: String,
    release: &'static str,
    process: Process,
    _labels: LabelDir,
}

impl Pod {
    fn start(binary: &Path, name: String, release: &'static str) -> Self {
        let labels = LabelDir::new(format!("app=\"appinfo\"\nrelease=\"{release}\""));
        let mut command = command(binary, &[]);
        command.env("MY_POD_NAME", &name).arg("--labels-file").arg(labels.file());
        Self { name, release, process: Process::start(&mut command), _labels: labels }
    }

    /// Both ports, as Prometheus discovers them.
    fn ports(&self) -> [Value; 2] {
        [("http", self.process.public), ("admin", self.process.admin)].map(|(port, address)| {
            container_port(address, port, "appinfo", self.release, &self.name, "Running")
        })
    }

    fn metrics(&self) -> String {
        let answer = get(self.process.admin, "/metrics").expect("an answer");
        assert_eq!(answer.status, 200);
        let content_type = answer.header("content-type").unwrap_or_default();
        assert!(
            content_type.starts_with("text/plain; version=0.0.4"),
            "Prometheus 3 refuses {content_type:?}"
        );
        answer.body
    }
}

/// The expressions of the dashboard, each with its panel's title.
fn dashboard_queries() -> Vec<(String, String)> {
    let text = fs::read_to_string("deployment/monitoring/grafana/dashboard.json").expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let queries = panels.flat_map(|panel| {
        let targets = panel["targets"].as_array().expect("targets").iter();
        // Grafana replaces this variable; 1h is the value for a dashboard of the last hour
        targets.map(move |target| (text(&panel["title"]), text(&target["expr"]).replace("$__range", "1h")))
    });
    queries.collect()
}

#[test]
fn promtool_accepts_configuration_and_rules() {
    let folder = config_folder();
    let said = promtool(folder.path(), &["check", "config", "prometheus.yml"], "");
    assert!(said.contains("rules found") && !said.contains("WARNING"), "{said}");
    promtool(folder.path(), &["check", "rules", "--lint=all", "--lint-fatal", "rules.yml"], "");
}

#[test]
fn alerts_fire_only_when_they_should() {
    let folder = config_folder();
    fs::copy("tests/monitoring/rules.test.yaml", folder.path().join("rules.test.yaml")).expect("the test");
    promtool(folder.path(), &["test", "rules", "rules.test.yaml"], "");
}

#[test]
fn every_query_of_the_dashboard_uses_the_chosen_data_source() {
    let text = fs::read_to_string("deployment/monitoring/grafana/dashboard.json").expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let [variable] = dashboard["templating"]["list"].as_array().expect("variables").as_slice() else {
        panic!("one variable")
    };
    assert_eq!((&variable["name"], &variable["type"]), (&"datasource".into(), &"datasource".into()));
    let chosen = serde_json::json!({"type": "prometheus", "uid": "${datasource}"});
    for panel in dashboard["panels"].as_array().expect("panels") {
        assert_eq!(panel["datasource"], chosen, "{}", panel["title"]);
        for target in panel["targets"].as_array().expect("targets") {
            assert_eq!(target["datasource"], chosen, "{}", panel["title"]);
        }
    }
}

#[test]
fn without_requests_no_dashboard_query_returns_nan() {
    let pod = Pod::start(&appinfo_with("baseline"), "stable-1".to_owned(), "stable");
    let folder = config_folder();
    write_targets(folder.path(), &pod.ports());
    let prometheus = Prometheus::start(folder.path());
    // a rate needs two scrapes
    eventually("requests have a rate", &[], || {
        value(&prometheus, "release:http_requests:rate1m", "stable") == Some(0.0)
    });
    for (panel, query) in dashboard_queries() {
        let series = prometheus.query(&query);
        assert!(series.iter().all(|(_, value)| value.is_finite()), "{panel}: {query} returns {series:?}");
        println!("{panel}: {query}: {series:?}");
    }
    get(pod.process.public, "/").expect("an answer");
    let counted = "sum(increase(http_requests_total[1m])) > 0";
    eventually("the request of / is counted", &[], || !prometheus.query(counted).is_empty());
    for (panel, query) in dashboard_queries() {
        let series = prometheus.query(&query);
        assert!(series.iter().all(|(_, value)| value.is_finite()), "{panel}: {query} returns {series:?}");
    }
}

#[test]
fn the_alert_for_a_broken_canary_fires_and_ends_after_the_roll_back() {
    let (baseline, broken) = (appinfo_with("baseline"), appinfo_with("broken"));
    let mut pods: Vec<_> =
        (1..=STABLE_PODS).map(|n| Pod::start(&baseline, format!("stable-{n}"), "stable")).collect();
    let canary = Pod::start(&broken, "canary-1".to_owned(), "canary");
    let elsewhere = canary.process.admin;
    pods.push(canary);

    let folder = config_folder();
    let mut targets: Vec<_> = pods.iter().flat_map(Pod::ports).collect();
    targets.push(container_port(elsewhere, "admin", "other-app", "canary", "other-1", "Running"));
    targets.push(container_port(elsewhere, "admin", "appinfo", "stable", "evicted-1", "Failed"));
    write_targets(folder.path(), &targets);
    let prometheus = Prometheus::start(folder.path());
    // every pod gets the same number of requests, as with a Service
    let everyone: Vec<_> = pods.iter().map(|pod| pod.process.public).collect();

    eventually("four pods are scraped", &everyone, || prometheus.query("up == 1").len() == 4);
    let scraped = Instant::now();
    let data = prometheus.api("targets?state=active");
    let mut labels: Vec<_> =
        data["activeTargets"].as_array().expect("targets").iter().map(|t| t["labels"].clone()).collect();
    labels.sort_by_key(|labels| labels["pod"].to_string());
    pods.sort_by(|one, other| one.name.cmp(&other.name));
    let expected = pods.iter().map(|pod| {
        serde_json::json!({"job": "appinfo", "app": "appinfo", "release": pod.release, "pod": pod.name,
            "instance": pod.process.admin})
    });
    assert_eq!(
        labels,
        expected.collect::<Vec<_>>(),
        "only admin ports of running pods of appinfo are scraped"
    );

    let share = |rule: &str| value(&prometheus, rule, "canary").zip(value(&prometheus, rule, "stable"));
    let close = |pair: Option<(f64, f64)>, to: (f64, f64)| {
        pair.is_some_and(|(canary, stable)| (canary - to.0).abs() < 0.02 && (stable - to.1).abs() < 0.02)
    };
    eventually("the traffic shares match the pods", &everyone, || {
        close(share("release:http_requests:share_rate1m"), (0.25, 0.75))
    });
    assert_eq!(share("release:up:sum"), Some((1.0, 3.0)));
    assert_eq!(share("release:up:share"), Some((0.25, 0.75)));
    let errors = share("release:http_request_errors:ratio_rate1m");
    assert_eq!(errors, Some((1.0, 0.0)), "the canary fails every request, the stable release none");
    let (canary, stable) = share("release:http_request_duration_seconds:p99_rate1m").expect("quantiles");
    assert!(
        [canary, stable].iter().all(|p99| (0.0..1.0).contains(p99) && *p99 > 0.0),
        "{canary} s, {stable} s"
    );

    eventually("the canary's alert fires", &everyone, || fires(&prometheus, "CanaryFailsMoreOften"));
    println!(
        "CanaryFailsMoreOften fires {:.0} s after all pods are scraped",
        scraped.elapsed().as_secs_f64()
    );
    eventually("the error budget's alerts fire, for hours and days", &everyone, || {
        firing(&prometheus).iter().filter(|(name, ..)| name == "ErrorBudgetBurn").count() == 4
    });
    for (name, labels, summary) in firing(&prometheus) {
        println!("{name}: {summary}");
        assert_ne!(name, "CanaryWithoutTraffic");
        assert_eq!(labels["app"], "appinfo", "{name}");
        assert!(summary.contains("appinfo") && !summary.contains("no value"), "{summary}");
        let is_canary_alert = name == "CanaryFailsMoreOften";
        assert_eq!(labels["release"] == "canary", is_canary_alert, "{name}: {labels}");
        assert_eq!(summary.contains("fails 100% of its requests"), is_canary_alert, "{summary}");
    }

    let queries = dashboard_queries();
    assert!(queries.len() >= 10, "{queries:?}");
    for (panel, query) in queries {
        let series = prometheus.query(&query);
        assert!(!series.is_empty(), "{panel}: {query} returns nothing");
        assert!(series.iter().all(|(_, value)| value.is_finite()), "{panel}: {query} returns {series:?}");
        println!("{panel}: {query}: {} series", series.len());
    }
    let names = prometheus.api("labels");
    let names: Vec<_> = names.as_array().expect("names").iter().filter_map(Value::as_str).collect();
    assert!(names.contains(&"release"), "{names:?}");
    assert!(!names.iter().any(|name| name.starts_with("exported_")), "{names:?}");
    let groups = prometheus.api("rules");
    for group in groups["groups"].as_array().expect("groups") {
        for rule in group["rules"].as_array().expect("rules") {
            assert_eq!(rule["health"], "ok", "{rule}");
        }
    }
    for pod in &pods {
        assert_eq!(promtool(folder.path(), &["check", "metrics"], &pod.metrics()), "", "{}", pod.name);
    }

    // the roll-back deletes the canary
    pods.retain(|pod| pod.release == "stable");
    let targets: Vec<_> = pods.iter().flat_map(Pod::ports).collect();
    write_targets(folder.path(), &targets);
    let stable: Vec<_> = pods.iter().map(|pod| pod.process.public).collect();
    let took = eventually("the alert ends", &stable, || !fires(&prometheus, "CanaryFailsMoreOften"));
    println!("CanaryFailsMoreOften ends {:.0} s after the roll-back", took.as_secs_f64());
    assert!(took < Duration::from_secs(150), "it took {took:?}");
    eventually("the stable release has all the traffic", &stable, || {
        value(&prometheus, "release:up:share", "canary").is_none()
            && value(&prometheus, "release:http_requests:share_rate1m", "stable") == Some(1.0)
    });
    let warnings: Vec<_> =
        prometheus.log().into_iter().filter(|line| !line.contains("\"level\":\"info\"")).collect();
    assert_eq!(warnings, [""; 0]);
}
