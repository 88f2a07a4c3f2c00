//! Runs the commands of README.md, then those of docs/baseline.md and docs/gateway.md, against the cluster that kubectl uses: every `sh`
//! block, in order and unedited. After each section, it measures what the section's text says. With arguments, it runs
//! only the documents that they name.
//!
//! The environment variables `EXTERNAL_IP`, `IMAGE`, `MANIFESTS` and `GATEWAY` have the same meaning as in the
//! documents. `LOAD_IMAGES` is a command that brings images to the cluster's nodes; its arguments are their names. A run
//! that fails, or that a signal ends, removes what it has created, unless `KEEP_ON_FAILURE` is set. If the cluster does
//! not have the Gateway API, docs/gateway.md is skipped, or fails if `GATEWAY` is set.

mod baseline;
mod chapter;
mod document;
mod ending;
mod gateway;
mod measure;
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

use chapter::{Chapter, chapters};
use document::Block;
use measure::Cluster;
use sections::Section;
use shell::Shell;
use traces::Traces;

/// The result of a step: what it measured, or what was wrong.
type Outcome = Result<String, String>;

/// Why a run ended.
enum End {
    Walked(Result<(), String>),
    /// By a signal, with its exit code.
    Signal(u8),
}

fn main() -> ExitCode {
    walkthrough().unwrap_or_else(|error| {
        eprintln!("\nwalkthrough: {error}");
        ExitCode::FAILURE
    })
}

fn walkthrough() -> Result<ExitCode, String> {
    let cluster = Cluster::current()?;
    let chapters = chapters()?;
    let folders: Vec<_> = chapters.iter().flat_map(|chapter| chapter.folders.iter().copied()).collect();
    let traces = Traces::of(&cluster, folders);
    let with_blocks = |chapter: Chapter| chapter.blocks().map(|blocks| (chapter, blocks));
    let chapters = chapters.into_iter().map(with_blocks).collect::<Result<Vec<_>, _>>()?;
    traces.none_is_in_the_way()?;

    let code = match walk_until_the_end(cluster.clone(), chapters)? {
        End::Walked(Ok(())) => return Ok(ExitCode::SUCCESS),
        End::Walked(Err(error)) => {
            eprintln!("\nwalkthrough: {error}");
            eprintln!("walkthrough: what the cluster says of it:\n{}", cluster.warnings());
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

/// Runs the documents in another thread, so that a signal can end the run at any time. When this returns, no command is
/// still running, so none can create objects during the removal.
fn walk_until_the_end(cluster: Cluster, chapters: Vec<(Chapter, Vec<Block>)>) -> Result<End, String> {
    let (sender, ends) = channel();
    let by_signal = sender.clone();
    ending::on_signal(move |code| drop(by_signal.send(End::Signal(code))))
        .map_err(|error| format!("cannot listen for signals: {error}"))?;
    let (mut shell, _processes) = Shell::start().map_err(|error| format!("cannot start sh: {error}"))?;
    thread::spawn(move || {
        let walk = catch_unwind(AssertUnwindSafe(|| {
            chapters.iter().try_for_each(|(chapter, blocks)| walk(&cluster, &mut shell, chapter, blocks))
        }));
        sender.send(End::Walked(walk.unwrap_or_else(|_| Err("the test itself failed".to_owned()))))
    });
    ends.recv().map_err(|error| error.to_string())
}

fn walk(cluster: &Cluster, shell: &mut Shell, chapter: &Chapter, blocks: &[Block]) -> Result<(), String> {
    let (file, begin) = (chapter.file, Instant::now());
    for Section { title, prepare, check, .. } in chapter.sections {
        let start = Instant::now();
        println!("\n== {title}");
        let prepared = prepare(cluster, shell);
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
                    "{file}, line {}, \"{title}\": a command failed\n{}",
                    block.line, block.script
                ));
            }
        }
        let measured = check(cluster, shell, prepared);
        let measured = measured.map_err(|error| format!("{file}, \"{title}\": {error}"))?;
        println!("   measured: {measured} ({:.0} s)", start.elapsed().as_secs_f64());
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!("\nwalkthrough: {} sections, each as {file} says ({seconds:.0} s)", chapter.sections.len());
    Ok(())
}

fn indented(by: &str, text: &str) -> String {
    text.lines().flat_map(|line| ["   ", by, line, "\n"]).collect()
}
