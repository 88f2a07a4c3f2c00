//! `canary --prometheus` on servers other than a plain Prometheus, and on series with noise: real `VictoriaMetrics`
//! and real Prometheus, which scrape real pods. A test is skipped if its server is not installed.

mod common;

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use appinfo::{
    config::Listen,
    labels::LabelFile,
    server::{self, Server as AppServer},
    service::{AppInfoBaseline, AppInfoBroken, AppInfoService, Pod},
};
use common::{json_lines, run};
use tempfile::TempDir;
use testkit::{eventually, free_port, labels::LabelVolume};
use tokio::runtime::Runtime;

/// A server of Prometheus' API, killed when dropped.
struct Server {
    child: Child,
    url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a program is installed. If not, it says that the test is skipped.
fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let is = env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if !is {
        eprintln!("skipped: {program} is not installed");
    }
    is
}

impl Server {
    fn victoria_metrics(folder: &Path) -> Self {
        let address = free_port().to_string();
        let mut command = Command::new("victoria-metrics");
        command
            .args(["-promscrape.config=scrape.yml", "-storageDataPath=data", "-search.latencyOffset=1s"])
            .arg(format!("-httpListenAddr={address}"));
        Self::start(command, folder, &address)
    }

    fn prometheus(folder: &Path) -> Self {
        let address = free_port().to_string();
        let mut command = Command::new("prometheus");
        command
            .args(["--config.file=scrape.yml", "--storage.tsdb.path=data", "--web.config.file=web.yml"])
            .arg(format!("--web.listen-address={address}"));
        Self::start(command, folder, &address)
    }

    fn start(mut command: Command, folder: &Path, address: &str) -> Self {
        let child = command.current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let new = Self { child: child.expect("it starts"), url: format!("http://{address}") };
        eventually("the server listens", || std::net::TcpStream::connect(address).is_ok());
        new
    }
}

/// Writes a configuration that scrapes these targets every second, each with the label `release`.
fn scrape(folder: &Path, targets: &[(SocketAddr, &str)]) {
    let targets: Vec<_> = targets
        .iter()
        .map(|(address, release)| {
            format!("{{targets: ['{address}'], labels: {{app: appinfo, release: {release}}}}}")
        })
        .collect();
    let config = format!(
        "{{global: {{scrape_interval: 1s, scrape_timeout: 1s}}, \
          scrape_configs: [{{job_name: pods, static_configs: [{}]}}]}}",
        targets.join(", ")
    );
    fs::write(folder.join("scrape.yml"), config).expect("a file");
}

/// A stable pod and a canary that fails each request. Both get requests all the time, and noise beside them.
struct Pods {
    /// The addresses of the service and of the metrics, by pod.
    addresses: Vec<[SocketAddr; 2]>,
    goes_on: Arc<AtomicBool>,
    folder: TempDir,
    _runtime: Runtime,
    _labels: Vec<LabelVolume>,
}

impl Pods {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let runtime = Runtime::new().expect("a runtime");
        let within = runtime.enter();
        let mut labels = Vec::new();
        let addresses: Vec<_> = [("stable", false), ("canary", true)]
            .map(|(release, is_broken)| {
                let volume = LabelVolume::new(folder.path().join(release), format!("release=\"{release}\""));
                let volume = volume.expect("a volume");
                let pod = Pod {
                    name: format!("appinfo-{release}"),
                    namespace: "space".to_owned(),
                    label_file: LabelFile::new(volume.file()),
                };
                labels.push(volume);
                let service: Box<dyn AppInfoService> =
                    if is_broken { Box::new(AppInfoBroken) } else { Box::new(AppInfoBaseline) };
                let listen = || server::bind(Listen::At((Ipv4Addr::LOCALHOST, 0).into())).expect("a port");
                let listeners = [listen(), listen()];
                let addresses = [0, 1].map(|it: usize| listeners[it].local_addr().expect("an address"));
                let [public, admin] = listeners;
                let server = AppServer::new(pod, service, public, admin).expect("a server");
                runtime.spawn(server.run(std::future::pending()));
                addresses
            })
            .into();
        drop(within);
        scrape(folder.path(), &[(addresses[0][1], "stable"), (addresses[1][1], "canary")]);
        let goes_on = Arc::new(AtomicBool::new(true));
        thread::spawn({
            let (goes_on, addresses) = (Arc::clone(&goes_on), addresses.clone());
            move || send(&goes_on, &addresses)
        });
        Self { addresses, goes_on, folder, _runtime: runtime, _labels: labels }
    }
}

/// Sends a request to each pod, and ten times as much noise: other methods, other paths, probes.
fn send(goes_on: &AtomicBool, addresses: &[[SocketAddr; 2]]) {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(5)))
        .build()
        .into();
    while goes_on.load(Ordering::Relaxed) {
        for [public, admin] in addresses {
            let service = format!("http://{public}/v1/appinfo");
            let _ = agent.get(&service).call();
            for _ in 0..3 {
                let _ = agent.post(&service).send_empty();
                let _ = agent.get(format!("http://{public}/")).call();
                let _ = agent.get(format!("http://{admin}/healthz")).call();
            }
            let _ = agent.delete(&service).call();
        }
        thread::sleep(Duration::from_millis(20));
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        self.goes_on.store(false, Ordering::Relaxed);
    }
}

#[test]
fn on_victoria_metrics_the_default_counts_only_requests_of_the_service() {
    if !is_installed("victoria-metrics") {
        return;
    }
    let pods = Pods::start();
    assert_eq!(pods.addresses.len(), 2);
    let server = Server::victoria_metrics(pods.folder.path());
    let (code, said, told) =
        run(&["judge", "--prometheus", &server.url, "--interval=1s", "--for=10m", "--output=json"]);
    assert_eq!(code, Some(1), "{said}{told}");
    let releases = &json_lines(&said).pop().expect("a summary")["releases"];
    assert_eq!(releases["canary"]["success"], 0, "noise counts as a success: {releases}");
    assert_eq!(releases["stable"]["failure"], 0, "{releases}");
    assert!(!told.contains("vector"), "its time is accepted: {told}");
}

#[test]
fn a_gauge_is_found_in_a_prometheus_that_wants_a_password() {
    if !is_installed("prometheus") {
        return;
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let target = listener.local_addr().expect("its address");
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let reader = BufReader::new(client.try_clone().expect("a handle"));
            reader.lines().map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
            let body = "# TYPE http_requests_total gauge\n\
                        http_requests_total{path=\"/v1/appinfo\",method=\"GET\",status=\"200\"} 7\n";
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\nconnection: close\r\n\
                 content-length: {}\r\n\r\n",
                body.len()
            );
            let _ = client.write_all((head + body).as_bytes());
            let _ = client.read(&mut [0; 1]);
        }
    });
    let folder = tempfile::tempdir().expect("a folder");
    scrape(folder.path(), &[(target, "stable"), (target, "canary")]);
    // bcrypt of "hush"
    let users = "{basic_auth_users: {me: $2b$04$R39o8fKNCxCHF0NiVrEKj.wGYrJHaIf0.F0mIXmMVWg5r2XcmyEPC}}";
    fs::write(folder.path().join("web.yml"), users).expect("a file");
    let secret = folder.path().join("secret");
    fs::write(&secret, "hush\n").expect("a file");
    let server = Server::prometheus(folder.path());
    let judge =
        |flags: &[&str]| run(&[&["judge", "--prometheus", &server.url, "--interval=500ms"], flags].concat());
    let (code, said, told) =
        judge(&["--for=15s", "--user=me", "--password-file", secret.to_str().expect("a name")]);
    assert_eq!(code, Some(5), "{said}{told}");
    assert!(told.contains("http_requests_total is a gauge; it must be a counter"), "{told}");
    let (_, _, told) = judge(&["--for=5s"]);
    assert!(told.contains("HTTP 401"), "{told}");
}
