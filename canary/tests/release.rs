//! What a release will have: archives with completions and man pages, the manifest for krew, the names for
//! `cargo binstall`, and the action for workflows. Its scripts run on an archive with the program under test.
//!
//! Needs `bash`, `curl`, `jq`, `sha256sum` and `tar`. Without `kubectl` and `shellcheck`, their tests are skipped.

mod common;
#[path = "../examples/manual.rs"]
#[allow(dead_code, reason = "its main is for the example")]
mod manual;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use canary::cli::Cli;
use clap::{CommandFactory, Parser};
use common::{Fate, Fleet, Version};
use serde_json::Value;
use tempfile::TempDir;

const TRIPLES: [&str; 4] =
    ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "x86_64-apple-darwin", "aarch64-apple-darwin"];
const TAG: &str = concat!("v", env!("CARGO_PKG_VERSION"));

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(project().join(path)).expect(path)
}

fn yaml(text: &str) -> Value {
    serde_yaml_ng::from_str(text).expect("YAML")
}

fn is_installed(program: &str) -> bool {
    let is = Command::new(program).arg("--help").output().is_ok();
    if !is {
        eprintln!("SKIPPED: {program} is not installed");
    }
    is
}

fn output(command: &mut Command) -> Output {
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// Writes the archives of this program into a folder.
fn archives(program: &Path, triples: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let pages = tempfile::tempdir().expect("a folder");
    manual::write(pages.path()).expect("completions and man pages");
    for triple in triples {
        let script = project().join(".github/release/archive");
        output(Command::new(script).arg(program).arg(triple).args([pages.path(), folder.path()]));
    }
    folder
}

/// The program under test without its debug information, if `strip` is there: archives are then made faster.
fn program(folder: &TempDir) -> PathBuf {
    let (built, stripped) = (Path::new(env!("CARGO_BIN_EXE_canary")), folder.path().join("stripped"));
    let made = Command::new("strip").arg("-o").arg(&stripped).arg(built).status();
    if made.is_ok_and(|status| status.success()) { stripped } else { built.to_owned() }
}

/// A small file in place of the program.
fn small_program(folder: &TempDir) -> PathBuf {
    stand_in(folder, "", 0)
}

/// The flags that bash offers after `canary COMMAND --`.
fn completed_by_bash(completions: &Path, command: &str) -> BTreeSet<String> {
    let script = r#"source "$1"; COMP_WORDS=(canary "$2" --); COMP_CWORD=2; _canary canary -- "$2"; printf '%s\n' "${COMPREPLY[@]}""#;
    let bash = output(Command::new("bash").args(["-euc", script, "bash"]).arg(completions).arg(command));
    text(&bash).lines().map(str::to_owned).collect()
}

#[test]
fn completions_and_man_pages_name_every_command_and_every_flag() {
    let folder = tempfile::tempdir().expect("a folder");
    manual::write(folder.path()).expect("the files");
    let path = |file: &str| folder.path().join(file);
    let read = |file: &str| fs::read_to_string(path(file)).expect(file);
    let (zsh, fish) = (read("completions/_canary"), read("completions/canary.fish"));
    let mut cli = Cli::command();
    cli.build();
    let mut all = 0;
    for command in cli.get_subcommands().filter(|it| it.get_name() != "help") {
        let name = command.get_name();
        let page = read(&format!("man/canary-{name}.1"));
        let zsh = zsh.lines().map(str::trim).skip_while(|line| *line != format!("({name})"));
        let zsh: Vec<_> = zsh.take_while(|line| *line != ";;").collect();
        // a colon ends the name of a value, and then an action begins
        for (_, value) in zsh.iter().filter_map(|line| line.rsplit_once("]:")) {
            let action = value.trim_start_matches(':').split(':').nth(1);
            assert!(action.is_some_and(|it| it.starts_with(['_', '('])), "{name}: {value} in {zsh:#?}");
        }
        let start = format!("complete -c canary -n \"__fish_canary_using_subcommand {name}\" ");
        let fish: Vec<_> = fish.lines().filter(|line| line.starts_with(&start)).collect();
        assert!(
            read("man/canary.1").contains(&format!("canary\\-{name}(1)")) && page.contains("Exit codes:"),
            "{name}"
        );
        assert!(read("completions/canary.fish").contains(&format!(" -f -a \"{name}\" ")), "{name}");
        let flags: BTreeSet<_> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
        for flag in &flags {
            assert!(page.contains(&format!("\\-\\-{}", flag.replace('-', "\\-"))), "{name} --{flag}: {page}");
            let is_there = ["[", "=["].iter().any(|after| {
                let wanted = format!("--{flag}{after}");
                zsh.iter().any(|line| line.contains(&wanted))
            });
            assert!(is_there, "{name} --{flag}: {zsh:#?}");
            assert!(
                fish.iter().any(|line| line.contains(&format!(" -l {flag} "))),
                "{name} --{flag}: {fish:#?}"
            );
        }
        let wanted: BTreeSet<_> = flags.iter().map(|flag| format!("--{flag}")).collect();
        assert_eq!(completed_by_bash(&path("completions/canary.bash"), name), wanted, "{name}");
        all += flags.len();
    }
    assert!(all > 80, "{all} flags");
}

/// What is in an archive: the type and mode of each entry.
fn entries(archive: &Path) -> BTreeMap<String, String> {
    let list = text(&output(Command::new("tar").arg("-tvzf").arg(archive)));
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let mode = words.next().expect("a mode").to_owned();
        (words.next_back().expect("a name").trim_end_matches('/').to_owned(), mode)
    };
    list.lines().map(entry).collect()
}

#[test]
fn an_archive_has_the_program_under_both_names_and_no_link() {
    let triple = TRIPLES[0];
    let built = tempfile::tempdir().expect("a folder");
    let folder = archives(&program(&built), &[triple]);
    let archive = folder.path().join(format!("canary-{triple}.tar.gz"));
    let entries = entries(&archive);
    // krew refuses anything else
    assert!(entries.values().all(|mode| mode.starts_with(['-', 'd'])), "{entries:?}");
    for (file, mode) in [
        ("canary", "-rwxr-xr-x"),
        ("kubectl-canary", "-rwxr-xr-x"),
        ("LICENSE", "-rw-"),
        ("CHANGELOG.md", "-rw-"),
        ("completions/canary.bash", "-rw-"),
        ("completions/_canary", "-rw-"),
        ("completions/canary.fish", "-rw-"),
        ("man/canary.1", "-rw-"),
        ("man/canary-judge.1", "-rw-"),
    ] {
        let found = entries.get(&format!("canary-{triple}/{file}"));
        assert!(found.is_some_and(|it| it.starts_with(mode)), "{file}: {entries:?}");
    }
    output(Command::new("tar").arg("-C").arg(folder.path()).arg("-xzf").arg(&archive));
    let unpacked = folder.path().join(format!("canary-{triple}"));
    for name in ["canary", "kubectl-canary"] {
        let version = text(&output(Command::new(unpacked.join(name)).arg("--version")));
        assert!(version.trim_end().ends_with(env!("CARGO_PKG_VERSION")), "{version}");
    }
    assert_eq!(
        fs::read(unpacked.join("LICENSE")).expect("a file"),
        fs::read(project().join("LICENSE")).expect("a file")
    );
    if is_installed("kubectl") {
        let path = format!("{}:{}", unpacked.display(), env::var("PATH").expect("a PATH"));
        let list =
            Command::new("kubectl").args(["plugin", "list"]).env("PATH", path).output().expect("it runs");
        let found = unpacked.join("kubectl-canary").display().to_string();
        assert!(text(&list).lines().any(|line| line == found), "{list:?}");
    }
}

/// The manifest for krew.
fn krew(folder: &Path) -> Output {
    let url = "https://github.com/owner/name";
    let script = project().join(".github/release/krew");
    Command::new(script).args([TAG, url]).arg(folder).output().expect("it runs")
}

#[test]
fn the_manifest_for_krew_describes_the_archives() {
    let built = tempfile::tempdir().expect("a folder");
    let folder = archives(&small_program(&built), &TRIPLES);
    let made = krew(folder.path());
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let manifest = yaml(&text(&made));
    assert_eq!(manifest["apiVersion"], "krew.googlecontainertools.github.com/v1alpha2");
    assert_eq!((&manifest["kind"], &manifest["metadata"]["name"]), (&"Plugin".into(), &"canary".into()));
    let spec = &manifest["spec"];
    assert_eq!(spec["version"], TAG);
    for text in ["homepage", "shortDescription", "description"] {
        assert!(spec[text].as_str().is_some_and(|it| !it.is_empty()), "{text}");
    }
    assert!(spec["shortDescription"].as_str().is_some_and(|it| it.len() <= 50), "krew's guide for names");
    let mut platforms = BTreeSet::new();
    for platform in spec["platforms"].as_array().expect("platforms") {
        let labels = &platform["selector"]["matchLabels"];
        let triple = match (labels["os"].as_str(), labels["arch"].as_str()) {
            (Some("linux"), Some("amd64")) => "x86_64-unknown-linux-gnu",
            (Some("linux"), Some("arm64")) => "aarch64-unknown-linux-gnu",
            (Some("darwin"), Some("amd64")) => "x86_64-apple-darwin",
            (Some("darwin"), Some("arm64")) => "aarch64-apple-darwin",
            other => panic!("{other:?}"),
        };
        platforms.insert(triple);
        let name = format!("canary-{triple}.tar.gz");
        let uri = format!("https://github.com/owner/name/releases/download/{TAG}/{name}");
        assert_eq!(platform["uri"], uri);
        let archive = folder.path().join(&name);
        let sum = text(&output(Command::new("sha256sum").arg(&archive)));
        assert_eq!(platform["sha256"].as_str(), sum.split(' ').next());
        // krew moves the files, and then links to `bin`
        let entries = entries(&archive);
        let mut there = BTreeSet::new();
        for file in platform["files"].as_array().expect("files") {
            let from = file["from"].as_str().expect("a path");
            assert!(entries.contains_key(from) && file["to"] == ".", "{file}");
            there.insert(from.rsplit('/').next().expect("a name"));
        }
        assert!(
            there.contains("LICENSE") && there.contains(platform["bin"].as_str().expect("a name")),
            "{there:?}"
        );
        assert_eq!(platform["bin"], "kubectl-canary");
    }
    assert_eq!(platforms, BTreeSet::from(TRIPLES));
}

#[test]
fn there_is_no_manifest_if_an_archive_is_missing_or_not_complete() {
    let built = tempfile::tempdir().expect("a folder");
    let folder = archives(&small_program(&built), &TRIPLES[..3]);
    assert!(!krew(folder.path()).status.success(), "one is missing");
    let name = format!("canary-{}", TRIPLES[3]);
    fs::create_dir(folder.path().join(&name)).expect("a folder");
    fs::write(folder.path().join(&name).join("kubectl-canary"), "").expect("a file");
    let archive = folder.path().join(format!("{name}.tar.gz"));
    output(Command::new("tar").arg("-C").arg(folder.path()).arg("-czf").arg(archive).arg(&name));
    assert!(!krew(folder.path()).status.success(), "without LICENSE");
}

#[test]
fn the_workflow_the_manifest_the_page_and_binstall_have_the_same_names() {
    let workflow = yaml(&read(".github/workflows/release.yml"));
    let job = &workflow["jobs"]["binaries"];
    let targets = job["strategy"]["matrix"]["target"].as_array().expect("targets");
    let built: BTreeSet<_> = targets.iter().filter_map(|target| target["triple"].as_str()).collect();
    assert_eq!(built, BTreeSet::from(TRIPLES));
    let steps = job["steps"].as_array().expect("steps");
    let runs: Vec<_> = steps.iter().filter_map(|step| step["run"].as_str()).collect();
    let archive = r#".github/release/archive "target/$TRIPLE/release/canary" "$TRIPLE" manual ."#;
    assert!(runs.iter().any(|run| run.contains(archive)), "{runs:#?}");
    let uploaded = steps.iter().filter_map(|step| step["with"]["path"].as_str()).next_back();
    assert_eq!(uploaded, Some("canary-${{ matrix.target.triple }}.tar.gz"));
    let publish = read(".github/workflows/release.yml");
    let krew = publish.find(".github/release/krew \"$TAG\"").expect("the manifest is made");
    assert!(
        krew < publish.find("sha256sum -- * >SHA256SUMS").expect("the sums"),
        "the sums include the manifest"
    );
    // a static build of procedural macros fails
    let example =
        steps.iter().find(|step| step["run"].as_str().is_some_and(|run| run.contains("--example manual")));
    assert!(example.expect("the man pages")["env"]["RUSTFLAGS"].is_null());

    let metadata = text(&output(
        Command::new(env!("CARGO"))
            .args(["metadata", "--no-deps", "--format-version=1", "--offline"])
            .current_dir(project()),
    ));
    let metadata: Value = serde_json::from_str(&metadata).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let package = packages.iter().find(|package| package["name"] == "canary").expect("canary");
    let binstall = &package["metadata"]["binstall"];
    let built = tempfile::tempdir().expect("a folder");
    let folder = archives(&small_program(&built), &TRIPLES);
    for triple in TRIPLES {
        let filled = |key: &str| {
            let text = binstall[key]
                .as_str()
                .expect(key)
                .replace("{ repo }", package["repository"].as_str().expect("a URL"));
            let text = text.replace("{ version }", env!("CARGO_PKG_VERSION")).replace("{ target }", triple);
            text.replace("{ bin }", "canary").replace("{ binary-ext }", "")
        };
        let name = format!("canary-{triple}.tar.gz");
        assert!(
            filled("pkg-url").ends_with(&format!("/releases/download/{TAG}/{name}")),
            "{}",
            filled("pkg-url")
        );
        assert!(filled("pkg-url").starts_with("https://") && !filled("pkg-url").contains('{'));
        assert!(
            entries(&folder.path().join(&name)).contains_key(&filled("bin-dir")),
            "{}",
            filled("bin-dir")
        );
        assert!(read("docs/install.md").contains(&format!("`{name}`")), "{name}");
        assert!(read("action.yml").contains(&format!("triple={triple} ")), "{triple}");
    }
    assert_eq!(binstall["pkg-fmt"], "tgz");
}

/// The steps of action.yml.
fn steps() -> Vec<Value> {
    let action = yaml(&read("action.yml"));
    assert_eq!(action["runs"]["using"], "composite");
    action["runs"]["steps"].as_array().expect("steps").clone()
}

/// A place where the action runs: what a runner has, and a release.
struct Runner {
    place: TempDir,
    inputs: BTreeMap<&'static str, String>,
    variables: BTreeMap<&'static str, String>,
    /// Whether GitHub tells the action its tag and its repository.
    knows_itself: bool,
}

/// How a run of the action ended.
#[derive(Debug)]
struct Ended {
    succeeded: bool,
    log: String,
    summary: String,
    outputs: BTreeMap<String, String>,
}

impl Runner {
    /// A runner, and a release with this program.
    fn new(program: &Path) -> Self {
        let place = tempfile::tempdir().expect("a folder");
        let release = place.path().join("server/owner/name/releases/download").join(TAG);
        fs::create_dir_all(&release).expect("a folder");
        let made = archives(program, &TRIPLES[..1]);
        let name = format!("canary-{}.tar.gz", TRIPLES[0]);
        fs::copy(made.path().join(&name), release.join(&name)).expect("a copy");
        let sums = output(Command::new("sha256sum").arg(&name).current_dir(&release));
        fs::write(release.join("SHA256SUMS"), sums.stdout).expect("a file");
        fs::create_dir_all(place.path().join("temp")).expect("a folder");
        let server = format!("file://{}", place.path().join("server").display());
        let inputs = [
            ("url", String::new()),
            ("arguments", String::new()),
            ("version", String::new()),
            ("repository", String::new()),
        ];
        let variables = [
            ("RUNNER_OS", "Linux".to_owned()),
            ("RUNNER_ARCH", "X64".to_owned()),
            ("GITHUB_SERVER_URL", server),
        ];
        Self { place, inputs: inputs.into(), variables: variables.into(), knows_itself: true }
    }

    fn with(mut self, input: &'static str, value: &str) -> Self {
        assert!(self.inputs.insert(input, value.to_owned()).is_some(), "an input of the action");
        self
    }

    /// The value of an expression of the action, as GitHub computes it.
    fn value(&self, expression: &str) -> String {
        let inner =
            expression.strip_prefix("${{ ").and_then(|it| it.strip_suffix(" }}")).expect("an expression");
        let of = |name: &str| match name {
            "github.action_ref" | "github.action_repository" if !self.knows_itself => String::new(),
            "github.action_ref" => TAG.to_owned(),
            "github.action_repository" => "owner/name".to_owned(),
            name => self.inputs[name.strip_prefix("inputs.").expect(name)].clone(),
        };
        inner.split(" || ").map(of).find(|value| !value.is_empty()).unwrap_or_default()
    }

    /// Runs the steps as a runner does: <https://docs.github.com/actions/reference/workflows-and-actions/workflow-syntax>,
    /// `shell: bash`.
    fn run(&self) -> Ended {
        let file = |name: &str| self.place.path().join(name);
        for name in ["path", "output", "summary"] {
            fs::write(file(name), "").expect("a file");
        }
        let (mut log, mut succeeded) = (String::new(), true);
        for step in steps() {
            assert_eq!(step["shell"], "bash");
            fs::write(file("step.sh"), step["run"].as_str().expect("a script")).expect("a file");
            let added = fs::read_to_string(file("path")).expect("the file").replace('\n', ":");
            let mut bash = Command::new("bash");
            bash.args(["--noprofile", "--norc", "-eo", "pipefail"])
                .arg(file("step.sh"))
                .current_dir(self.place.path());
            for (key, value) in step["env"].as_object().expect("variables") {
                bash.env(key, self.value(value.as_str().expect("a text")));
            }
            bash.envs(&self.variables)
                .env("PATH", format!("{added}{}", env::var("PATH").expect("a PATH")))
                .env("RUNNER_TEMP", file("temp"))
                .env("GITHUB_PATH", file("path"))
                .env("GITHUB_OUTPUT", file("output"))
                .env("GITHUB_STEP_SUMMARY", file("summary"));
            let Output { status, stdout, stderr } = bash.output().expect("bash");
            log += &String::from_utf8(stdout).expect("UTF-8");
            log += &String::from_utf8(stderr).expect("UTF-8");
            if !status.success() {
                succeeded = false;
                break;
            }
        }
        let read = |name: &str| fs::read_to_string(file(name)).expect("a file");
        let outputs = read("output");
        let outputs = outputs.lines().map(|line| line.split_once('=').expect("a pair"));
        let outputs = outputs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        Ended { succeeded, log, summary: read("summary"), outputs }
    }
}

/// A program that writes its arguments and this line, and ends with this code.
fn stand_in(folder: &TempDir, line: &str, code: u8) -> PathBuf {
    let program = folder.path().join("canary");
    let script = format!(
        "#!/bin/sh\nfor it; do echo \"argument: $it\" >&2; done\ncat <<'END'\n{line}\nEND\nexit {code}\n"
    );
    fs::write(&program, script).expect("a file");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a mode");
    program
}

/// The summary of `canary judge` with this verdict.
fn summary_line(verdict: &str) -> String {
    serde_json::json!({
        "type": "summary", "requests": 30, "success": 24, "failure": 6, "verdict_text": verdict,
        "releases": {"stable": {"success": 20, "failure": 1}, "canary": {"success": 4, "failure": 5}},
    })
    .to_string()
}

#[test]
fn the_action_judges_with_the_real_program() {
    let built = tempfile::tempdir().expect("a folder");
    let program = program(&built);
    for (plan, decision, succeeds, told) in [
        (Fate::Succeed, "promote", true, "::notice title=canary::Promote the canary."),
        (Fate::Fail, "roll_back", false, "::error title=canary::Roll the canary back."),
    ] {
        let mut fleet = Fleet::new();
        fleet.add("appinfo-1", "release=\"stable\"", Version::Baseline);
        fleet.add_planned("appinfo-canary-1", "canary", move |_| (plan, std::time::Duration::ZERO));
        let runner = Runner::new(&program)
            .with("url", &fleet.url())
            .with("arguments", "--rate=150\n--for=10m\n--timeout=60s\n");
        let ended = runner.run();
        assert_eq!(ended.succeeded, succeeds, "{ended:?}");
        assert_eq!(ended.outputs["decision"], decision);
        assert!(ended.log.contains(told), "{}", ended.log);
        let shown = ended.outputs["verdict"].split(':').next().expect("a word").to_owned();
        assert!(
            ended.summary.starts_with(&format!("### Canary: {decision}\n\n{shown}")),
            "{}",
            ended.summary
        );
        let rows: Vec<_> = ended.summary.lines().filter(|line| line.starts_with("| ")).collect();
        let starts = ["| | requests | failed |", "| stable | ", "| canary | ", "| all | "];
        assert!(
            rows.len() == 4 && rows.iter().zip(starts).all(|(row, start)| row.starts_with(start)),
            "{rows:#?}"
        );
    }
}

#[test]
fn the_action_fails_only_on_roll_back_or_without_a_verdict() {
    for (code, decision, succeeds, told) in [
        (0, "promote", true, "::notice title=canary::Promote"),
        (1, "roll_back", false, "::error title=canary::Roll the canary back."),
        (2, "not_yet", true, "::warning title=canary::Not yet"),
        (5, "not_yet", true, "::warning title=canary::Not yet"),
        (7, "hold", true, "::warning title=canary::Not yet"),
        (3, "", false, "::error title=canary::There was no verdict: exit code 3."),
        (4, "", false, "::error title=canary::There was no verdict: exit code 4."),
        (6, "", false, "::error title=canary::There was no verdict: exit code 6."),
        (143, "", false, "::error title=canary::There was no verdict: exit code 143."),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let line = if code == 3 { String::new() } else { summary_line("Some verdict.") };
        let ended = Runner::new(&stand_in(&folder, &line, code)).with("url", "http://a").run();
        assert_eq!(
            (ended.succeeded, ended.outputs["decision"].as_str()),
            (succeeds, decision),
            "{code}: {ended:?}"
        );
        assert_eq!(ended.outputs["exit-code"], code.to_string());
        assert!(ended.log.lines().any(|line| line.starts_with(told)), "{code}: {}", ended.log);
        if code == 3 {
            assert!(ended.summary.contains("There is no verdict: see the log."), "{}", ended.summary);
        } else {
            let table = "Some verdict\\.\n\n| | requests | failed |\n|---|---|---|\n| stable | 21 | 1 |\n| canary | 9 | 5 |\n| all | 30 | 6 |\n";
            assert!(ended.summary.ends_with(table), "{}", ended.summary);
        }
    }
}

#[test]
fn the_action_tells_what_was_asked_after_the_verdict() {
    let mut line: Value = serde_json::from_str(&summary_line("Promote: it is good.")).expect("JSON");
    line["asked"] = serde_json::json!({"only_probe": true, "text": "Only /readyz\nwas asked."});
    let folder = tempfile::tempdir().expect("a folder");
    let ended = Runner::new(&stand_in(&folder, &line.to_string(), 0)).with("arguments", "deployment/a").run();
    assert_eq!(ended.outputs["verdict"], "Promote: it is good. Only /readyz was asked.", "{ended:?}");
    assert!(
        ended.summary.contains("Promote\\: it is good\\. Only \\/readyz was asked\\."),
        "{}",
        ended.summary
    );
}

#[test]
fn no_input_of_the_action_and_no_name_of_the_service_is_a_command() {
    for step in steps() {
        let script = step["run"].as_str().expect("a script");
        assert!(!script.contains("${{"), "inputs come by variables: {script}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let verdict = "Not yet: <img src=x> [a](http://evil) `b` |\ndecision=promote\n::error::x ##[error]y";
    let program = stand_in(&folder, &summary_line(verdict), 2);
    let arguments =
        "--header=Host: a b\n\n$(touch pwned)\n\"; touch pwned; \"\r\n`touch pwned` ${HOME} *\n--for=1m";
    let runner = Runner::new(&program).with("url", "--help; touch pwned").with("arguments", arguments);
    let ended = runner.run();
    assert!(!runner.place.path().join("pwned").exists() && ended.succeeded, "{ended:?}");
    let passed: Vec<_> = ended.log.lines().filter_map(|line| line.strip_prefix("argument: ")).collect();
    let wanted = [
        "judge",
        "--output",
        "json",
        "--header=Host: a b",
        "$(touch pwned)",
        "\"; touch pwned; \"",
        "`touch pwned` ${HOME} *",
        "--for=1m",
        "--",
        "--help; touch pwned",
    ];
    assert_eq!(passed, wanted);
    assert_eq!(ended.outputs["decision"], "not_yet", "a line of the verdict is no output");
    assert_eq!(ended.outputs.len(), 3, "{:?}", ended.outputs);
    let plain = "Not yet\\: \\<img src\\=x\\> \\[a\\]\\(http\\:\\/\\/evil\\) \\`b\\` \\| decision\\=promote \\:\\:error\\:\\:x \\#\\#\\[error\\]y\n";
    assert!(ended.summary.contains(plain), "{}", ended.summary);
    // what the service says stands where the runner obeys nothing
    let stop = ended.log.lines().find_map(|line| line.strip_prefix("::stop-commands::")).expect("a stop");
    let inside = ended.log.split(&format!("::stop-commands::{stop}\n")).nth(1).expect("its part");
    let (inside, _) = inside.split_once(&format!("::{stop}::\n")).expect("its end");
    assert!(stop.len() == 32 && inside.contains("##[error]y"), "{inside}");
    assert_eq!(ended.log.matches("##[error]y").count(), 1, "{}", ended.log);
}

#[test]
fn the_action_installs_only_a_release_with_the_right_sum() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = stand_in(&folder, &summary_line("x"), 0);
    let told = |runner: &Runner| {
        let ended = runner.run();
        assert!(!ended.succeeded && ended.outputs.is_empty(), "{ended:?}");
        ended.log
    };
    for (input, value, message) in [
        ("version", "v9.9.9", "owner/name has no release v9.9.9 with the file canary-"),
        ("version", "v1; touch pwned", "the input version must be the tag of a release"),
        ("version", "../../x", "the input version must be the tag of a release"),
        ("repository", "a/b/../c", "the input repository must be OWNER/NAME"),
        ("repository", "other/name", "other/name has no release"),
    ] {
        let runner = Runner::new(&program).with(input, value);
        let log = told(&runner);
        assert!(log.contains(&format!("::error title=canary::{message}")), "{log}");
        assert!(!runner.place.path().join("pwned").exists());
    }
    let unknown = || Runner { knows_itself: false, ..Runner::new(&program) };
    assert!(told(&unknown()).contains("::error title=canary::set the input version to the tag"));
    assert!(told(&unknown().with("version", TAG)).contains("::set the input repository to"));
    let ended = unknown().with("version", TAG).with("repository", "owner/name").run();
    assert!(ended.succeeded, "{ended:?}");
    let mut windows = Runner::new(&program);
    windows.variables.insert("RUNNER_OS", "Windows".to_owned());
    assert!(told(&windows).contains("there is no binary for Windows on X64"));
    for (file, bytes) in [(format!("canary-{}.tar.gz", TRIPLES[0]), "other"), ("SHA256SUMS".to_owned(), "")] {
        let runner = Runner::new(&program);
        let release = runner.place.path().join("server/owner/name/releases/download").join(TAG);
        fs::write(release.join(file), bytes).expect("a file");
        assert!(told(&runner).contains("is not the file of SHA256SUMS"));
    }
}

#[test]
fn the_example_of_a_workflow_uses_inputs_and_outputs_that_exist() {
    let page = read("docs/install.md");
    let example = page.split("```yaml\n").nth(1).and_then(|it| it.split("```").next()).expect("an example");
    let (example, action) = (yaml(example), yaml(&read("action.yml")));
    let steps = example["jobs"]["judge"]["steps"].as_array().expect("steps");
    let with = steps[0]["with"].as_object().expect("inputs");
    assert!(with.keys().all(|input| action["inputs"].get(input).is_some()), "{with:?}");
    let condition = steps[1]["if"].as_str().expect("a condition");
    assert_eq!(
        condition,
        format!("steps.{}.outputs.decision == 'promote'", steps[0]["id"].as_str().expect("an id"))
    );
    assert!(action["outputs"].get("decision").is_some());
    let arguments = with["arguments"]
        .as_str()
        .expect("arguments")
        .lines()
        .chain(["--", with["url"].as_str().expect("a URL")]);
    Cli::try_parse_from(["canary", "judge"].into_iter().chain(arguments)).expect("flags that exist");
}

#[test]
fn shellcheck_finds_nothing_in_the_scripts() {
    if !is_installed("shellcheck") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut scripts = vec![project().join(".github/release/archive"), project().join(".github/release/krew")];
    for (number, step) in steps().iter().enumerate() {
        let script = folder.path().join(format!("step-{number}"));
        let text = step["run"].as_str().expect("a script");
        fs::write(&script, format!("#!/usr/bin/env bash\nset -eo pipefail\n{text}")).expect("a file");
        scripts.push(script);
    }
    assert!(scripts.len() > 3);
    let checked = Command::new("shellcheck").args(scripts).output().expect("it runs");
    assert!(checked.status.success(), "{}", text(&checked));
}
