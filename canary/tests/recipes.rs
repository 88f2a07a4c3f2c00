//! The recipes of docs/canary.md, taken from the page and run unedited, on series and lines as the other programs
//! write them. Each is tried on a bad canary whose noise is good, on a good canary whose noise is bad, and on a canary
//! that gets only noise: health checks, the kubelet's probes, checks of `/` and of methods that do not exist.
//!
//! The names of series, labels and fields are those of these sources:
//!
//! - Istio: <https://istio.io/latest/docs/reference/config/metrics/>
//! - Linkerd: <https://linkerd.io/2/reference/proxy-metrics/>; the route of the kubelet's probes is
//!   `InboundHttpRouteRef::Default("probe")` in linkerd2's policy-controller
//! - ingress-nginx: `internal/ingress/metric/collectors/socket.go`, `rootfs/etc/nginx/lua/monitor.lua` and
//!   `balancer.lua` of kubernetes/ingress-nginx
//! - Traefik: <https://doc.traefik.io/traefik/observability/metrics/overview/>
//! - nginx: <https://nginx.org/en/docs/http/ngx_http_log_module.html>
//! - Envoy: <https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage>
//! - k6: <https://grafana.com/docs/k6/latest/results-output/real-time/json/>, and `output/json` of grafana/k6
//!
//! Needs `prometheus` and `jq`. Where one is missing, its tests are skipped.

mod common;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command},
    thread,
    time::Instant,
};

use common::{json_lines, start};
use serde_json::{Value, json};
use testkit::{eventually, prometheus::Prometheus};

const DOCUMENT: &str = include_str!("../../docs/canary.md");

/// The state of the canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Canary {
    /// It fails a fifth of its requests.
    Failing,
    /// A fifth of its answers are slow.
    Slow,
    Good,
    /// It gets no requests, only noise.
    Idle,
}

/// What a series counts.
#[derive(Clone, Copy)]
enum Counts {
    Stable,
    /// The canary's successes.
    Successes,
    /// The canary's failures.
    Failures,
    /// Noise that looks like successes.
    GoodNoise,
    /// Noise that looks like failures, for a good canary.
    BadNoise,
}

impl Counts {
    /// The requests in a second, and how many of them are slow.
    fn rate(self, canary: Canary) -> (f64, f64) {
        match (self, canary) {
            (Self::Stable, _) => (300.0, 0.0),
            (Self::Successes, Canary::Failing) => (80.0, 0.0),
            (Self::Failures, Canary::Failing) => (20.0, 0.0),
            (Self::Successes, Canary::Slow) => (100.0, 20.0),
            (Self::Successes, Canary::Good) => (100.0, 0.0),
            (Self::GoodNoise, _) => (5000.0, 0.0),
            (Self::BadNoise, Canary::Good) => (50.0, 0.0),
            (Self::Successes | Self::Failures | Self::BadNoise, _) => (0.0, 0.0),
        }
    }
}

/// The series of a program.
struct Program {
    /// As in the document's comments; the default flags if it is empty.
    recipe: &'static str,
    counter: &'static str,
    /// The histogram and its bounds.
    histogram: &'static str,
    bounds: &'static [&'static str],
    /// Labels that the histogram does not have.
    not_in_histogram: &'static [&'static str],
    targets: &'static [Target],
}

/// What Prometheus scrapes.
struct Target {
    name: &'static str,
    /// The labels that Prometheus adds.
    labels: &'static [(&'static str, &'static str)],
    /// The labels that all its series have.
    common: &'static str,
    /// The other labels of each series.
    series: &'static [(Counts, &'static str)],
}

use Counts::{BadNoise, Failures, GoodNoise, Stable, Successes};

const PROGRAMS: &[Program] = &[
    Program {
        recipe: "",
        counter: "http_requests_total",
        histogram: "http_request_duration_seconds",
        bounds: &["0.25", "0.5"],
        not_in_histogram: &["status"],
        targets: &[
            Target {
                name: "appinfo",
                labels: &[("app", "appinfo"), ("release", "stable")],
                common: "",
                series: &[
                    (Stable, r#"method="GET",path="/v1/appinfo",status="200""#),
                    (GoodNoise, r#"method="GET",path="other",status="404""#),
                    (GoodNoise, r#"method="POST",path="/v1/appinfo",status="405""#),
                ],
            },
            Target {
                name: "appinfo-canary",
                labels: &[("app", "appinfo"), ("release", "canary")],
                common: "",
                series: &[
                    (Successes, r#"method="HEAD",path="/v1/appinfo",status="200""#),
                    (Failures, r#"method="HEAD",path="/v1/appinfo",status="500""#),
                    (GoodNoise, r#"method="GET",path="other",status="404""#),
                    (GoodNoise, r#"method="POST",path="/v1/appinfo",status="405""#),
                ],
            },
        ],
    },
    Program {
        recipe: "Istio",
        counter: "istio_requests_total",
        histogram: "istio_request_duration_milliseconds",
        bounds: &["100", "250", "500"],
        not_in_histogram: &[],
        targets: &[
            Target {
                name: "istio",
                labels: &[],
                common: r#"destination_workload="shop",destination_workload_namespace="web",request_protocol="http""#,
                series: &[
                    (
                        Stable,
                        r#"reporter="destination",response_code="200",connection_security_policy="mutual_tls""#,
                    ),
                    (
                        GoodNoise,
                        r#"reporter="destination",response_code="200",connection_security_policy="none""#,
                    ),
                ],
            },
            Target {
                name: "istio-canary",
                labels: &[],
                common: r#"destination_workload="shop-canary",destination_workload_namespace="web",request_protocol="http""#,
                series: &[
                    (
                        Successes,
                        r#"reporter="destination",response_code="200",connection_security_policy="mutual_tls""#,
                    ),
                    // the client gave up waiting
                    (
                        Failures,
                        r#"reporter="destination",response_code="0",connection_security_policy="mutual_tls""#,
                    ),
                    // a load balancer checks /
                    (
                        GoodNoise,
                        r#"reporter="destination",response_code="404",connection_security_policy="mutual_tls""#,
                    ),
                    // the kubelet
                    (
                        GoodNoise,
                        r#"reporter="destination",response_code="200",connection_security_policy="none""#,
                    ),
                    (
                        BadNoise,
                        r#"reporter="destination",response_code="503",connection_security_policy="none""#,
                    ),
                ],
            },
            // the same requests, as the gateway reports them
            Target {
                name: "istio-gateway",
                labels: &[],
                common: r#"destination_workload="shop-canary",destination_workload_namespace="web",request_protocol="http""#,
                series: &[
                    (
                        GoodNoise,
                        r#"reporter="source",response_code="200",connection_security_policy="unknown""#,
                    ),
                    (
                        BadNoise,
                        r#"reporter="source",response_code="503",connection_security_policy="unknown""#,
                    ),
                ],
            },
        ],
    },
    Program {
        recipe: "Linkerd",
        counter: "response_total",
        histogram: "response_latency_ms",
        bounds: &["100", "200", "300"],
        not_in_histogram: &["classification"],
        targets: &[
            Target {
                name: "linkerd",
                labels: &[("namespace", "web"), ("deployment", "shop")],
                common: r#"srv_kind="default",srv_name="all-unauthenticated",route_kind="default""#,
                series: &[
                    (
                        Stable,
                        r#"direction="inbound",srv_port="8080",route_name="default",status_code="200",classification="success""#,
                    ),
                    (
                        GoodNoise,
                        r#"direction="inbound",srv_port="8080",route_name="probe",status_code="200",classification="success""#,
                    ),
                ],
            },
            Target {
                name: "linkerd-canary",
                labels: &[("namespace", "web"), ("deployment", "shop-canary")],
                common: r#"srv_kind="default",srv_name="all-unauthenticated",route_kind="default""#,
                series: &[
                    (
                        Successes,
                        r#"direction="inbound",srv_port="8080",route_name="default",status_code="200",classification="success""#,
                    ),
                    (
                        Failures,
                        r#"direction="inbound",srv_port="8080",route_name="default",status_code="500",classification="failure""#,
                    ),
                    (
                        GoodNoise,
                        r#"direction="inbound",srv_port="8080",route_name="probe",status_code="200",classification="success""#,
                    ),
                    (
                        BadNoise,
                        r#"direction="inbound",srv_port="8080",route_name="probe",status_code="503",classification="failure""#,
                    ),
                    // the proxy's own port
                    (
                        GoodNoise,
                        r#"direction="inbound",srv_port="4191",route_name="default",status_code="200",classification="success""#,
                    ),
                    (
                        GoodNoise,
                        r#"direction="inbound",srv_port="8080",route_name="default",status_code="404",classification="success""#,
                    ),
                    (
                        BadNoise,
                        r#"direction="outbound",target_port="5432",status_code="500",classification="failure""#,
                    ),
                ],
            },
        ],
    },
    Program {
        recipe: "ingress-nginx",
        counter: "nginx_ingress_controller_requests",
        histogram: "nginx_ingress_controller_request_duration_seconds",
        bounds: &["0.1", "0.25", "0.5"],
        not_in_histogram: &[],
        targets: &[Target {
            name: "ingress-nginx",
            labels: &[],
            common: r#"controller_class="k8s.io/ingress-nginx",controller_namespace="ingress-nginx",method="GET",path="/""#,
            series: &[
                (Stable, r#"canary="",ingress="shop",namespace="web",service="shop",status="200""#),
                (
                    Successes,
                    r#"canary="web-shop-canary-80",ingress="shop",namespace="web",service="shop",status="200""#,
                ),
                (
                    Failures,
                    r#"canary="web-shop-canary-80",ingress="shop",namespace="web",service="shop",status="499""#,
                ),
                (
                    GoodNoise,
                    r#"canary="web-shop-canary-80",ingress="shop",namespace="web",service="shop",status="404""#,
                ),
                // another service of the namespace, with a canary of its own
                (
                    GoodNoise,
                    r#"canary="web-cart-canary-80",ingress="cart",namespace="web",service="cart",status="200""#,
                ),
                (
                    BadNoise,
                    r#"canary="web-cart-canary-80",ingress="cart",namespace="web",service="cart",status="500""#,
                ),
            ],
        }],
    },
    Program {
        recipe: "Traefik",
        counter: "traefik_service_requests_total",
        histogram: "traefik_service_request_duration_seconds",
        bounds: &["0.1", "0.3", "1.2"],
        not_in_histogram: &[],
        targets: &[Target {
            name: "traefik",
            labels: &[],
            common: r#"protocol="http""#,
            series: &[
                (Stable, r#"code="200",method="GET",service="web-shop-80@kubernetescrd""#),
                (Successes, r#"code="200",method="GET",service="web-shop-canary-80@kubernetescrd""#),
                (Failures, r#"code="502",method="GET",service="web-shop-canary-80@kubernetescrd""#),
                (GoodNoise, r#"code="404",method="GET",service="web-shop-canary-80@kubernetescrd""#),
                (GoodNoise, r#"code="405",method="POST",service="web-shop-canary-80@kubernetescrd""#),
                (BadNoise, r#"code="500",method="GET",service="web-cart-80@kubernetescrd""#),
            ],
        }],
    },
];

impl Program {
    /// The text that Prometheus scrapes from a target.
    fn text(&self, target: &Target, canary: Canary, seconds: f64) -> String {
        let mut text = format!("# TYPE {} counter\n", self.counter);
        let mut durations = BTreeMap::<_, (f64, f64)>::new();
        for (counts, labels) in target.series {
            let (rate, slow) = counts.rate(canary);
            let (count, slow) = ((rate * seconds).floor(), (slow * seconds).floor());
            let labels =
                [*labels, target.common].into_iter().filter(|labels| !labels.is_empty()).collect::<Vec<_>>();
            let labels = labels.join(",");
            writeln!(text, "{}{{{labels}}} {count}", self.counter).expect("a string");
            let is_kept =
                |label: &&str| !self.not_in_histogram.contains(&label.split('=').next().expect("a name"));
            let labels: Vec<_> = labels.split(',').filter(is_kept).map(str::to_owned).collect();
            let sums = durations.entry(labels).or_default();
            *sums = (sums.0 + count, sums.1 + slow);
        }
        writeln!(text, "# TYPE {} histogram", self.histogram).expect("a string");
        for (labels, (count, slow)) in durations {
            let (name, labels) = (self.histogram, labels.join(","));
            for bound in self.bounds {
                writeln!(text, "{name}_bucket{{{labels},le=\"{bound}\"}} {}", count - slow)
                    .expect("a string");
            }
            writeln!(text, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}").expect("a string");
            writeln!(text, "{name}_count{{{labels}}} {count}").expect("a string");
        }
        text
    }

    /// The documented flags.
    fn flags(&self) -> Vec<String> {
        if self.recipe.is_empty() {
            return vec!["--slow".to_owned(), "http_request_duration_seconds_bucket{le=\"0.25\"}".to_owned()];
        }
        let recipes =
            DOCUMENT.split("these are the flags with some other sources:\n\n").nth(1).expect("recipes");
        let recipes = recipes.split("\n\n- ").next().expect("their end");
        let recipe =
            recipes.split("    # ").find(|recipe| recipe.starts_with(self.recipe)).expect(self.recipe);
        let (_, flags) = recipe.split_once('\n').expect("its flags");
        // in the shell, text within quotes is one word
        let words = flags.split('\'').enumerate().flat_map(|(part, text)| {
            if part % 2 == 1 { vec![text] } else { text.split_whitespace().collect() }
        });
        words.map(str::to_owned).collect()
    }
}

/// A server of all targets, each at the path of its name.
fn serve_metrics(canary: Canary) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("its address");
    let began = Instant::now();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || answer(client, canary, began));
        }
    });
    address
}

fn answer(mut client: TcpStream, canary: Canary, began: Instant) {
    let mut lines = BufReader::new(client.try_clone().expect("a handle")).lines();
    while let Some(Ok(request)) = lines.next() {
        if lines.by_ref().map_while(Result::ok).find(String::is_empty).is_none() {
            return;
        }
        let path = request.split(' ').nth(1).expect("a path").trim_start_matches('/').to_owned();
        let targets = PROGRAMS.iter().flat_map(|program| program.targets.iter().map(move |it| (program, it)));
        let (program, target) = targets.into_iter().find(|(_, it)| it.name == path).expect("a target");
        let body = program.text(target, canary, began.elapsed().as_secs_f64());
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        if client.write_all((head + &body).as_bytes()).is_err() {
            return;
        }
    }
}

/// The exit code and the summary of each documented recipe on such a canary, judged by the counters of a real
/// Prometheus. Without Prometheus, prints a message and returns `None`.
fn judged_by_counters(canary: Canary, time: &str) -> Option<Vec<(&'static str, Option<i32>, String)>> {
    if Command::new("prometheus").arg("--version").output().is_err() {
        eprintln!("SKIPPED: prometheus is not installed, and the documented flags need it");
        return None;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let address = serve_metrics(canary);
    let jobs = PROGRAMS.iter().flat_map(|program| program.targets).map(|target| {
        let mut labels: Value = target.labels.iter().map(|(key, value)| (*key, json!(value))).collect();
        labels["instance"] = json!(target.name);
        json!({
            "job_name": target.name,
            "metrics_path": format!("/{}", target.name),
            "static_configs": [{"targets": [address], "labels": labels}],
        })
    });
    let jobs: Vec<_> = jobs.collect();
    let global = json!({"scrape_interval": "1s", "scrape_timeout": "1s"});
    let configuration = json!({"global": global, "scrape_configs": jobs}); // JSON is YAML
    fs::write(folder.path().join("prometheus.yml"), configuration.to_string()).expect("a file");
    let prometheus = Prometheus::start(folder.path());
    eventually("each target was scraped", || {
        prometheus.query("sum_over_time(up[1h])>=2").len() == jobs.len()
    });
    let started: Vec<(_, Child)> = PROGRAMS
        .iter()
        .map(|program| {
            let flags = program.flags();
            let usual =
                ["judge", "--prometheus", &prometheus.url, "--interval=1s", "--for", time, "--output=json"];
            let all: Vec<_> = usual.into_iter().chain(flags.iter().map(String::as_str)).collect();
            (program.recipe, start(&all))
        })
        .collect();
    let ended = started.into_iter().map(|(recipe, judge)| {
        let output = judge.wait_with_output().expect("it runs");
        let summary = json_lines(&String::from_utf8_lossy(&output.stdout)).pop().unwrap_or_default();
        let said =
            format!("{} {summary} {}", summary["verdict_text"], String::from_utf8_lossy(&output.stderr));
        (recipe, output.status.code(), said)
    });
    Some(ended.collect())
}

/// Asserts that each recipe ends with one of these exit codes. `time` is the most that it may take, on a busy machine.
fn each_recipe_ends_with(expected: &[i32], canary: Canary, time: &str) {
    let judged = judged_by_counters(canary, time).unwrap_or_default();
    let wrong: Vec<_> =
        judged.iter().filter(|(_, code, _)| code.is_none_or(|code| !expected.contains(&code))).collect();
    assert!(wrong.is_empty(), "{canary:?}: {wrong:#?}");
}

#[test]
fn a_failing_canary_is_rolled_back_by_each_recipe_though_its_noise_is_good() {
    each_recipe_ends_with(&[1], Canary::Failing, "10m");
}

#[test]
fn a_slow_canary_is_rolled_back_by_each_recipe_though_its_noise_is_fast() {
    each_recipe_ends_with(&[1], Canary::Slow, "10m");
}

#[test]
fn a_good_canary_is_promoted_by_each_recipe_though_its_noise_fails() {
    each_recipe_ends_with(&[0], Canary::Good, "10m");
}

#[test]
fn a_canary_that_gets_only_noise_is_not_promoted_by_any_recipe() {
    each_recipe_ends_with(&[2, 5], Canary::Idle, "15s");
}

#[test]
fn the_documented_default_is_that_of_the_program() {
    let row = DOCUMENT.lines().find(|line| line.starts_with("| `--metric NAME{MATCHERS}`")).expect("a row");
    let default = row.trim_end_matches("` |").rsplit('`').next().expect("a default").replace("\\|", "|");
    let (_, help, _) = common::run(&["judge", "--help"]);
    let help: String = help.split_whitespace().collect();
    assert!(help.contains(&default), "{default}");
}

/// The fenced block in this language that contains this text.
fn block(language: &str, containing: &str) -> &'static str {
    let blocks = DOCUMENT.split("\n```").skip(1).step_by(2); // the text after each opening fence
    let (_, text) = blocks
        .filter_map(|block| block.split_once('\n'))
        .find(|(name, text)| *name == language && text.contains(containing))
        .unwrap_or_else(|| panic!("a block {language} with {containing}"));
    text
}

/// A request, for a line of a log.
struct Logged {
    /// In seconds from the beginning.
    sent: f64,
    seconds: f64,
    status: u16,
    release: Option<&'static str>,
    path: &'static str,
}

/// The seconds of 2026-11-24T12:00:00Z since 1970.
const NOON: f64 = 1_795_521_600.0;

/// Some seconds after noon, as in RFC 3339.
fn clock(seconds: f64, fraction: impl Fn(f64) -> String) -> String {
    let whole = seconds.floor();
    let (hours, minutes) = ((whole / 3600.0).floor(), (whole / 60.0).floor() % 60.0);
    format!("2026-11-24T{:02}:{minutes:02}:{:02}{}", 12.0 + hours, whole % 60.0, fraction(seconds - whole))
}

/// A documented line with other values.
fn line(documented: &str, values: &[(&str, Value)]) -> String {
    let mut line: Value = serde_json::from_str(documented).expect("JSON");
    for (pointer, value) in values {
        *line.pointer_mut(pointer).unwrap_or_else(|| panic!("the documented line has {pointer}")) =
            value.clone();
    }
    format!("{line}\n")
}

fn nginx(request: &Logged) -> String {
    let values = [
        ("/msec", json!(NOON + request.sent + request.seconds)),
        ("/request_time", json!(request.seconds)),
        ("/status", json!(if request.status == 0 { 499 } else { request.status })),
        ("/uri", json!(request.path)),
        ("/upstream_http_x_release", json!(request.release.unwrap_or_default())),
    ];
    line(block("json", "upstream_http_x_release"), &values)
}

fn envoy(request: &Logged) -> String {
    let milliseconds = |part: f64| format!(".{:03}Z", (part * 1e3).floor());
    let values = [
        ("/start_time", json!(clock(request.sent, milliseconds))),
        ("/duration", json!((request.seconds * 1e3).round())),
        ("/response_code", json!(request.status)),
        ("/path", json!(format!("{}?q=1", request.path))),
        ("/release", json!(request.release)),
    ];
    line(block("json", "start_time"), &values)
}

/// k6 writes times as Go's `RFC3339Nano` does: in the zone of the machine, without zeros at the end.
fn k6(request: &Logged) -> String {
    let nanoseconds = |part: f64| {
        let digits = format!("{part:.9}");
        format!("{}+02:00", digits.trim_start_matches('0').trim_end_matches('0').trim_end_matches('.'))
    };
    let values = [
        ("/metric", json!(if request.path == "/v1/appinfo" { "answers" } else { "http_req_duration" })),
        ("/data/time", json!(clock(request.sent + request.seconds, nanoseconds))),
        ("/data/value", json!(request.seconds * 1e3)),
        ("/data/tags/status", json!(request.status.to_string())),
        ("/data/tags/release", json!(request.release.unwrap_or_default())),
    ];
    line(block("json", "\"metric\":\"answers\""), &values)
}

/// The programs that write logs: the name in the document's filter, and how it writes a line.
type Writer = fn(&Logged) -> String;
const WRITERS: [(&str, Writer); 3] = [("access.log", nginx), ("envoy.log", envoy), ("k6.json", k6)];

/// Runs a documented filter and the judge on the lines of these requests: exit code and output. The lines are in the
/// order of the requests' ends, as these programs write them.
fn judged_by_log(
    folder: &Path,
    file: &str,
    writer: Writer,
    mut requests: Vec<Logged>,
) -> (Option<i32>, String) {
    requests.sort_by(|one, other| (one.sent + one.seconds).total_cmp(&(other.sent + other.seconds)));
    let lines: String = requests.iter().map(writer).collect();
    fs::write(folder.join(file), lines).expect("a log");
    let script = block("console", &format!("' {file} | canary judge --input -"));
    let script = script.lines().map(|line| line.trim_start_matches("$ ")).collect::<Vec<_>>().join("\n");
    let binary = Path::new(env!("CARGO_BIN_EXE_canary")).parent().expect("a directory");
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").expect("PATH"));
    let output = Command::new("sh").args(["-c", &script]).current_dir(folder).env("PATH", path).output();
    let output = output.expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.code(), said.into_owned())
}

/// Requests of 400 seconds: each second three to stable and one to the canary, with noise.
fn requests(canary: Canary) -> Vec<Logged> {
    let mut all = Vec::new();
    for second in 0..400_u32 {
        let at = f64::from(second);
        let good = |sent, release| Logged {
            sent,
            seconds: 0.004,
            status: 200,
            release: Some(release),
            path: "/v1/appinfo",
        };
        all.extend([0.0, 0.25, 0.75].map(|part| good(at + part, "stable")));
        let fails = canary == Canary::Failing && second % 5 == 0;
        match canary {
            Canary::Idle => {}
            // its failures take 9 s, so their lines come late
            _ if fails => {
                all.push(Logged { seconds: 9.0, status: 500, ..good(at + 0.5, "canary") });
            }
            _ => all.push(good(at + 0.5, "canary")),
        }
        if fails && second % 50 == 0 {
            // the client gave up waiting
            all.push(Logged { seconds: 2.0, status: 0, release: None, ..good(at + 0.6, "") });
        }
        for part in 0..10 {
            let sent = at + f64::from(part) / 10.0 + 0.01;
            all.push(Logged { status: 404, path: "/", ..good(sent, "canary") });
        }
        if canary == Canary::Good {
            all.push(Logged { status: 503, path: "/healthz", ..good(at + 0.9, "canary") });
        }
    }
    all
}

#[test]
fn the_documented_filters_roll_back_a_failing_canary_and_promote_a_good_one_whatever_its_noise() {
    if Command::new("jq").arg("--version").output().is_err() {
        eprintln!("SKIPPED: jq is not installed, and the documented filters need it");
        return;
    }
    let folder = tempfile::tempdir().expect("a directory");
    for (file, writer) in WRITERS {
        for (canary, expected, text) in [
            (Canary::Failing, 1, "Roll back: the canary is worse than stable"),
            (Canary::Good, 0, "Promote: the canary has failed 0 of "),
            (Canary::Idle, 5, "named the release canary"),
        ] {
            let (code, said) = judged_by_log(folder.path(), file, writer, requests(canary));
            assert_eq!(code, Some(expected), "{file}, {canary:?}: {said}");
            assert!(said.contains(text), "{file}, {canary:?}: {said}");
        }
    }
}

#[test]
fn the_documented_filters_tell_time_release_failure_and_pod_in_the_order_of_sending() {
    if Command::new("jq").arg("--version").output().is_err() {
        eprintln!("SKIPPED: jq is not installed, and the documented filters need it");
        return;
    }
    let folder = tempfile::tempdir().expect("a directory");
    let of = |sent, seconds, status, release| Logged { sent, seconds, status, release, path: "/v1/appinfo" };
    // in the order of their ends
    let logged = [
        of(2.25, 0.75, 200, Some("stable")),
        of(3.5, 0.5, 404, Some("stable")),
        of(4.5, 0.25, 200, Some("other")),
        of(1.125, 8.0, 500, Some("canary")),
        of(0.0, 10.0, 0, None),
    ];
    let pod = "appinfo-567b989978-vvzlg";
    let expected = [
        json!({"release": null, "failed": true, "ms": 10000.0, "pod": pod}),
        json!({"release": "canary", "failed": true, "ms": 8000.0, "pod": pod}),
        json!({"release": "stable", "failed": false, "ms": 750.0, "pod": pod}),
        json!({"release": "stable", "failed": false, "ms": 500.0, "pod": pod}),
        json!({"release": null, "failed": false, "ms": 250.0, "pod": pod}),
    ];
    for (file, writer) in WRITERS {
        fs::write(folder.path().join(file), logged.iter().map(writer).collect::<String>()).expect("a log");
        let script = block("console", &format!("' {file} | canary judge --input -"));
        let filter = script.trim_start_matches("$ ").split(" | canary judge").next().expect("the filter");
        let output =
            Command::new("sh").args(["-c", filter]).current_dir(folder.path()).output().expect("it runs");
        let lines = json_lines(&String::from_utf8_lossy(&output.stdout));
        let told = String::from_utf8_lossy(&output.stderr);
        let rounded: Vec<_> = lines
            .into_iter()
            .map(|mut line| {
                line["ms"] = json!(line["ms"].as_f64().expect("a time").round());
                line
            })
            .collect();
        assert_eq!(rounded, expected, "{file}: {told}");
    }
}
