//! Runs the walkthrough of README.md against the cluster that kubectl talks to: every block fenced `sh`, in
//! order, unedited, and after each section a measurement of what its text says.
//!
//! Environment: `EXTERNAL_IP`, `IMAGE` and `MANIFESTS` mean what they mean in the README; `LOAD_IMAGES` is a
//! command that brings images, named as its arguments, to the cluster's nodes.

#[path = "../common/http.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with other tests")]
mod http;
mod measure;
mod readme;
mod sections;
mod shell;

use std::{process::ExitCode, time::Instant};

use measure::Cluster;
use sections::{SECTIONS, Section};
use shell::Shell;

/// What a step came to: what was measured, or what was wrong.
type Outcome = Result<String, String>;

fn main() -> ExitCode {
    match walk() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nwalkthrough: {error}");
            ExitCode::FAILURE
        }
    }
}

fn walk() -> Result<(), String> {
    let text = std::fs::read_to_string("README.md").map_err(|error| format!("README.md: {error}"))?;
    let blocks = readme::sh_blocks(&text);
    let titles = readme::sections_of(&blocks);
    let known: Vec<_> = SECTIONS.iter().map(|section| section.title).collect();
    if titles != known {
        return Err(format!(
            "sections with sh blocks in README.md:\n{titles:#?}\nbut this test measures:\n{known:#?}"
        ));
    }
    let cluster = Cluster::current()?;
    cluster.nothing_is_there().map_err(|error| format!("there is something in the way: {error}"))?;
    let mut shell = Shell::start().map_err(|error| format!("cannot start sh: {error}"))?;

    for Section { title, prepare, check, .. } in SECTIONS {
        let start = Instant::now();
        println!("\n== {title}");
        let prepared = prepare(&cluster);
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
        let measured = check(&cluster, &mut shell, prepared);
        let measured = measured.map_err(|error| format!("README.md, \"{title}\": {error}"))?;
        println!("   measured: {measured} ({:.0} s)", start.elapsed().as_secs_f64());
    }
    println!("\nwalkthrough: {} sections, each as the README says", SECTIONS.len());
    Ok(())
}

fn indented(by: &str, text: &str) -> String {
    text.lines().flat_map(|line| ["   ", by, line, "\n"]).collect()
}
