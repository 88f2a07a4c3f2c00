//! Runs the walkthrough of README.md against the cluster that kubectl talks to: every block fenced `sh`, in
//! order, unedited, and after each section a measurement of what its text says.
//!
//! Environment: `EXTERNAL_IP`, `IMAGE` and `MANIFESTS` mean what they mean in the README; `LOAD_IMAGES` is a
//! command that brings images, named as its arguments, to the cluster's nodes. A run that fails or is ended by a
//! signal removes what it made, unless `KEEP_ON_FAILURE` is set.

mod ending;
#[path = "../common/http.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with other tests")]
mod http;
mod measure;
mod readme;
mod sections;
mod shell;
mod traces;

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    sync::mpsc::channel,
    thread,
    time::Instant,
};

use measure::Cluster;
use readme::Block;
use sections::{SECTIONS, Section};
use shell::Shell;
use traces::Traces;

/// What a step came to: what was measured, or what was wrong.
type Outcome = Result<String, String>;

/// Why a walk ended.
enum End {
    Walked(Result<(), String>),
    /// By a signal, with the exit code for it.
    Signal(u8),
}

fn main() -> ExitCode {
    walkthrough().unwrap_or_else(|error| {
        eprintln!("\nwalkthrough: {error}");
        ExitCode::FAILURE
    })
}

fn walkthrough() -> Result<ExitCode, String> {
    let blocks = blocks()?;
    let cluster = Cluster::current()?;
    let traces = Traces::of(&cluster);
    traces.none_is_in_the_way()?;

    let code = match walk_until_the_end(cluster.clone(), blocks)? {
        End::Walked(Ok(())) => return Ok(ExitCode::SUCCESS),
        End::Walked(Err(error)) => {
            eprintln!("\nwalkthrough: {error}");
            ExitCode::FAILURE
        }
        End::Signal(code) => {
            eprintln!("\nwalkthrough: ended by a signal");
            code.into()
        }
    };
    let command = traces.removal_command();
    if env::var_os("KEEP_ON_FAILURE").is_some_and(|value| !value.is_empty()) {
        eprintln!("walkthrough: what it made is still there; this removes it:\n{command}");
        return Ok(code);
    }
    eprintln!("walkthrough: removing what it made:\n{command}");
    traces.remove()?;
    Ok(code)
}

/// Walks in a thread of its own, so that a signal ends it wherever it is. None of its commands runs any more
/// afterwards, so that none makes something while it is being removed.
fn walk_until_the_end(cluster: Cluster, blocks: Vec<Block>) -> Result<End, String> {
    let (sender, ends) = channel();
    let by_signal = sender.clone();
    ending::on_signal(move |code| drop(by_signal.send(End::Signal(code))))
        .map_err(|error| format!("cannot listen for signals: {error}"))?;
    let (shell, _processes) = Shell::start().map_err(|error| format!("cannot start sh: {error}"))?;
    thread::spawn(move || {
        let walk = catch_unwind(AssertUnwindSafe(|| walk(&cluster, shell, &blocks)));
        sender.send(End::Walked(walk.unwrap_or_else(|_| Err("the test itself failed".to_owned()))))
    });
    ends.recv().map_err(|error| error.to_string())
}

/// The commands of the README, which must be those that this test measures.
fn blocks() -> Result<Vec<Block>, String> {
    let text = std::fs::read_to_string("README.md").map_err(|error| format!("README.md: {error}"))?;
    let blocks = readme::sh_blocks(&text);
    let titles = readme::sections_of(&blocks);
    let known: Vec<_> = SECTIONS.iter().map(|section| section.title).collect();
    if titles == known {
        Ok(blocks)
    } else {
        Err(format!(
            "sections with sh blocks in README.md:\n{titles:#?}\nbut this test measures:\n{known:#?}"
        ))
    }
}

fn walk(cluster: &Cluster, mut shell: Shell, blocks: &[Block]) -> Result<(), String> {
    for Section { title, prepare, check, .. } in SECTIONS {
        let start = Instant::now();
        println!("\n== {title}");
        let prepared = prepare(cluster);
        for block in blocks.iter().filter(|block| block.section == *title) {
            print!("{}", indented("$ ", &block.script));
            let ran = shell.run(&block.script);
            let (output, worked) = match &ran {
                Ok(output) => (output, true),
                Err(output) => (output, false),
            };
            print!("{}", indented("  ", output));
            if !worked {
                return Err(format!(
                    "README.md, line {}, \"{title}\": a command failed\n{}",
                    block.line, block.script
                ));
            }
        }
        let measured = check(cluster, &mut shell, prepared);
        let measured = measured.map_err(|error| format!("README.md, \"{title}\": {error}"))?;
        println!("   measured: {measured} ({:.0} s)", start.elapsed().as_secs_f64());
    }
    println!("\nwalkthrough: {} sections, each as the README says", SECTIONS.len());
    Ok(())
}

fn indented(by: &str, text: &str) -> String {
    text.lines().flat_map(|line| ["   ", by, line, "\n"]).collect()
}
