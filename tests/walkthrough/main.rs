//! Runs the walkthrough of README.md, then that of docs/gateway.md, against the cluster that kubectl talks to:
//! every block fenced `sh`, in order, unedited, and after each section a measurement of what its text says.
//! Arguments name the documents, if it is not to be both.
//!
//! Environment: `EXTERNAL_IP`, `IMAGE`, `MANIFESTS` and `GATEWAY` mean what they mean in these documents;
//! `LOAD_IMAGES` is a command that brings images, named as its arguments, to the cluster's nodes. A run that fails
//! or is ended by a signal removes what it made, unless `KEEP_ON_FAILURE` is set. Without the Gateway API in the
//! cluster, docs/gateway.md is skipped; that is a failure where `GATEWAY` is set.

mod chapter;
mod document;
mod ending;
mod gateway;
#[path = "../common/http.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with other tests")]
mod http;
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
