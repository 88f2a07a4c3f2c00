//! The images, run as a cluster would run them. Builds them first, as the README says; needs Docker alone.

mod common;

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use common::LABELS;
use serde_json::Value;
use tempfile::TempDir;
use testkit::{eventually, http::get, labels::LabelDir};

/// The grace period that `docker stop` is given, as the manifests give it.
const GRACE_SECONDS: u64 = 30;

fn run(arguments: &[&str]) -> Output {
    // older engines use BuildKit only when asked to
    let output = Command::new("docker").env("DOCKER_BUILDKIT", "1").args(arguments).output();
    let output = output.expect("docker is installed");
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn docker(arguments: &[&str]) -> String {
    String::from_utf8(run(arguments).stdout).expect("UTF-8").trim().to_owned()
}

fn build(version: u8) -> String {
    build_from(&format!("Dockerfile.v{version}"), format!("runyonsolutions/appinfo:{version}"))
}

fn build_canary() -> String {
    build_from("canary/Dockerfile", "runyonsolutions/canary:1".to_owned())
}

fn build_from(dockerfile: &str, image: String) -> String {
    let start = Instant::now();
    docker(&["build", "-q", "-t", &image, "-f", dockerfile, "."]);
    println!("{image}: built in {:.1} s", start.elapsed().as_secs_f64());
    image
}

/// Another clone of this repository, whose code differs in one place: `--version` tells its folder. So no two are
/// the same to Docker's cache, not even those of two runs of this test.
struct Clone(TempDir);

impl Clone {
    /// With all files as old as that, as `cp -p` and archives make them.
    fn last_modified(date: &str) -> Self {
        let new = Self(tempfile::tempdir().expect("a folder"));
        let files = [
            ".dockerignore",
            "Cargo.lock",
            "Cargo.toml",
            "Dockerfile.v1",
            "canary",
            "judge",
            "src",
            "testkit",
        ];
        let copied = Command::new("cp").arg("-R").args(files).arg(new.0.path()).status().expect("cp");
        assert!(copied.success());
        let config = new.0.path().join("src/config.rs");
        let code = fs::read_to_string(&config).expect("the code");
        let changed = code.replace("\"{} ({})\"", &format!("\"{{}} ({{}}) in {}\"", new.folder()));
        assert_ne!(code, changed, "what --version tells is written elsewhere");
        fs::write(config, changed).expect("written");
        let mut find = Command::new("find");
        let status = find.arg(new.0.path()).args(["-exec", "touch", "-d", date, "{}", "+"]).status();
        assert!(status.expect("find").success());
        new
    }

    fn folder(&self) -> &str {
        self.0.path().to_str().expect("UTF-8")
    }

    fn image(&self) -> String {
        let name = self.0.path().file_name().expect("a name").to_str().expect("UTF-8");
        format!("appinfo-clone:{}", name.trim_start_matches('.'))
    }

    /// Builds its image: the packages that were compiled.
    fn build(&self) -> Vec<String> {
        let dockerfile = format!("{}/Dockerfile.v1", self.folder());
        let start = Instant::now();
        let output =
            run(&["build", "--progress=plain", "-t", &self.image(), "-f", &dockerfile, self.folder()]);
        println!("{}: built in {:.1} s", self.image(), start.elapsed().as_secs_f64());
        let log = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let compiled = log.lines().filter_map(|line| line.split_once(" Compiling "));
        compiled.filter_map(|(_, package)| package.split(' ').next().map(ToOwned::to_owned)).collect()
    }

    /// What its image says about itself.
    fn version(&self) -> String {
        docker(&["run", "--rm", &self.image(), "--version"])
    }

    fn wanted_version(&self) -> String {
        format!("appinfo {} (baseline) in {}", env!("CARGO_PKG_VERSION"), self.folder())
    }
}

impl Drop for Clone {
    fn drop(&mut self) {
        // there is none if its build failed
        let _ = Command::new("docker").args(["rmi", "--force", &self.image()]).output();
    }
}

fn inspect(what: &str) -> Value {
    let mut all: Vec<Value> = serde_json::from_str(&docker(&["inspect", what])).expect("JSON");
    all.remove(0)
}

/// What an image and each of its files say.
fn inspect_image(image: &str) -> (Value, Vec<String>) {
    let details = inspect(image);
    println!("{image}: {} bytes", details["Size"]);
    let container = Container(docker(&["create", image]));
    let files = Command::new("sh")
        .args(["-c", "docker export \"$0\" | tar --list --verbose", &container.0])
        .output()
        .expect("a list");
    let files = String::from_utf8(files.stdout).expect("UTF-8");
    // but for what Docker itself puts into every container
    let docker_makes = |name: &str| {
        let files =
            ["proc/", "sys/", ".dockerenv", "etc/hostname", "etc/hosts", "etc/mtab", "etc/resolv.conf"];
        let name = name.split(" -> ").next().unwrap_or(name);
        name.starts_with("dev/") || files.contains(&name)
    };
    // mode, owner, size, date, time, name; and where a link leads
    let name = |line: &str| line.split_whitespace().skip(5).collect::<Vec<_>>().join(" ");
    let ours = files.lines().map(name).filter(|name| !docker_makes(name)).collect();
    (details, ours)
}

/// No user's rights, no place to write.
const HARDENED: [&str; 5] = ["--read-only", "--cap-drop", "ALL", "--user", "65532"];

/// A container, removed when dropped.
struct Container(String);

impl Container {
    /// Ends it as Kubernetes does. It must do so in less than half of the grace period, with exit code 0.
    fn stop(&self) {
        let start = Instant::now();
        docker(&["stop", "--time", &GRACE_SECONDS.to_string(), &self.0]);
        let took = start.elapsed();
        let state = &inspect(&self.0)["State"];
        assert!(took < Duration::from_secs(GRACE_SECONDS / 2), "it took {took:?} to end: {state}");
        assert_eq!(state["ExitCode"], 0, "{state}");
    }

    fn run(image: &str, labels: &LabelDir, options: &[&str]) -> Self {
        let directory = labels.file().parent().expect("a directory").to_owned();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("readable for any user");
        let volume = format!("{}:/etc/podinfo:ro", directory.display());
        let who = ["--env", "MY_POD_NAME=pod-1", "--env", "MY_POD_NAMESPACE=space"];
        let ports = ["--publish", "127.0.0.1::8080", "--publish", "127.0.0.1::8081"];
        let run = ["run", "--detach", "--volume", &volume];
        Self(docker(&[&run[..], &HARDENED, &who, &ports, options, &[image]].concat()))
    }

    fn address(&self, port: &str) -> SocketAddr {
        docker(&["port", &self.0, port]).parse().expect("an address")
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        docker(&["rm", "--force", &self.0]);
    }
}

#[test]
fn each_version_answers_as_it_should_follows_its_labels_and_ends_in_time() {
    let body = |namespace: &str, extra: &str| {
        format!(
            "{{\"PodName\":\"pod-1\",\"AppName\":\"appinfo\",\"Namespace\":\"{namespace}\",\
             \"Release\":\"stable\",\"Labels\":{{{extra}\"pod-template-hash\":\"1236545534\"}}}}\n"
        )
    };
    for (version, status, namespace) in [(1, 200, ""), (2, 500, ""), (3, 200, "space")] {
        let labels = LabelDir::new(LABELS);
        let container = Container::run(&build(version), &labels, &[]);
        let (public, admin) = (container.address("8080"), container.address("8081"));
        eventually("it is ready", || get(admin, "/readyz").is_ok_and(|answer| answer.status == 200));

        let expect = |extra: &str| {
            let answer = get(public, "/v1/appinfo").expect("an answer");
            let broken = "{\"error\":\"something went wrong\"}\n".to_owned();
            let wanted = if status == 200 { body(namespace, extra) } else { broken };
            assert_eq!((answer.status, answer.body.as_str()), (status, wanted.as_str()), "version {version}");
            answer.header("x-release").map(ToOwned::to_owned)
        };
        assert_eq!(expect("").as_deref(), Some("stable"));
        labels.swap(format!("newlabel=\"realtime\"\n{LABELS}"));
        assert_eq!(expect("\"newlabel\":\"realtime\",").as_deref(), Some("stable"));
        labels.swap(LABELS.replace("stable", "canary"));
        let released = get(public, "/v1/appinfo").expect("an answer");
        assert_eq!(released.header("x-release"), Some("canary"), "version {version} follows its labels");

        container.stop();
    }
}

#[test]
fn images_are_small_hold_nothing_else_and_say_what_they_are() {
    for version in 1..=3 {
        let image = build(version);
        let (details, files) = inspect_image(&image);
        assert!(details["Size"].as_u64().expect("a size") <= 3_000_000, "{details}");
        let config = &details["Config"];
        assert_eq!(config["User"], "65532:65532");
        assert_eq!(config["Entrypoint"], serde_json::json!(["/appinfo"]));
        assert_eq!(config["ExposedPorts"], serde_json::json!({"8080/tcp": {}, "8081/tcp": {}}));
        assert_eq!(config["Labels"]["org.opencontainers.image.version"], version.to_string());
        assert_eq!(files, ["appinfo", "etc/", "etc/labels -> podinfo/labels", "etc/podinfo/"]);

        let output = docker(&["run", "--rm", &image, "--version"]);
        let feature = ["baseline", "broken", "with-namespace"][usize::from(version) - 1];
        assert_eq!(output, format!("appinfo {} ({feature})", env!("CARGO_PKG_VERSION")));
    }
}

/// The file with the root certificates in the image of canary.
const ROOTS: &str = "etc/ssl/certs/ca-certificates.crt";

#[test]
fn the_image_of_canary_is_small_and_holds_the_tool_and_root_certificates_alone() {
    let image = build_canary();
    let (details, files) = inspect_image(&image);
    assert!(details["Size"].as_u64().expect("a size") <= 10_000_000, "{details}");
    let config = &details["Config"];
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Entrypoint"], serde_json::json!(["/canary"]));
    assert_eq!(config["ExposedPorts"], serde_json::json!({"8090/tcp": {}}));
    assert_eq!(config["Labels"]["org.opencontainers.image.title"], "canary");
    assert_eq!(files, ["canary", "etc/", "etc/ssl/", "etc/ssl/certs/", ROOTS]);
    let version = docker(&["run", "--rm", &image, "--version"]);
    assert_eq!(version, format!("canary {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn canary_serves_in_its_image_and_ends_in_time() {
    let run = ["run", "--detach", "--publish", "127.0.0.1::8090"];
    let serve = [&build_canary(), "serve", "http://127.0.0.1:8080", "--listen=:8090"];
    let container = Container(docker(&[&run[..], &HARDENED, &serve].concat()));
    let address = container.address("8090");
    eventually("it is ready", || get(address, "/readyz").is_ok_and(|answer| answer.status == 200));
    let verdict: Value =
        serde_json::from_str(&get(address, "/v1/verdict").expect("an answer").body).expect("JSON");
    assert_eq!(verdict["decision"], "not_yet", "no canary answers: {verdict}");
    container.stop();
}

#[test]
fn canary_finds_the_root_certificates_of_its_image_and_no_others() {
    let image = build_canary();
    let judged = |options: &[&str]| {
        let judge = [&image, "judge", "https://127.0.0.1:1", "--count=1"];
        let output = Command::new("docker").args([&["run", "--rm"], options, &judge].concat()).output();
        let output = output.expect("docker is installed");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, message) = judged(&[]);
    assert_eq!(code, Some(4), "it trusts somebody, but nobody listens there: {message}");
    let (code, message) = judged(&["--volume", &format!("/dev/null:/{ROOTS}:ro")]);
    assert_eq!(code, Some(3), "{message}");
    assert!(message.contains("this machine has none"), "{message}");
}

#[test]
fn a_tenth_of_a_processor_has_one_worker() {
    let labels = LabelDir::new(LABELS);
    let container = Container::run(&build(1), &labels, &["--cpus", "0.1"]);
    eventually("it is ready", || {
        get(container.address("8081"), "/readyz").is_ok_and(|answer| answer.status == 200)
    });
    let threads = fs::read_dir(format!("/proc/{}/task", inspect(&container.0)["State"]["Pid"]));
    let name =
        |thread: io::Result<fs::DirEntry>| fs::read_to_string(thread.expect("it runs").path().join("comm"));
    let names = threads.expect("the engine is on this machine").map(|thread| name(thread).expect("it runs"));
    assert_eq!(names.filter(|name| name.starts_with("tokio-rt-worker")).count(), 1);
}

#[test]
fn an_image_has_the_code_of_its_own_folder_and_only_dependencies_from_the_cache() {
    let new = Clone::last_modified("now");
    new.build();
    assert_eq!(new.version(), new.wanted_version());
    for date in ["2001-01-01", "2000-01-01"] {
        let old = Clone::last_modified(date);
        assert_eq!(old.build(), ["appinfo"]);
        assert_eq!(old.version(), old.wanted_version(), "its files are older than what is in the cache");
    }
    let both = [Clone::last_modified("now"), Clone::last_modified("2000-01-01")];
    thread::scope(|scope| {
        for clone in &both {
            scope.spawn(|| clone.build());
        }
    });
    for clone in both {
        assert_eq!(clone.version(), clone.wanted_version(), "both were built at the same time");
    }
}
