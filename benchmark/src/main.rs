//! An open benchmark of rules for canaries. It writes `docs/benchmark.md`, `docs/benchmark.csv` and the plots:
//!
//! ```text
//! cargo run --release --manifest-path benchmark/Cargo.toml
//! ```
//!
//! With `--check` it writes nothing, and fails if the files differ from what it computes. To add a rule, add a file to
//! `rules/` and its name to `rule.rs`. To add a world, add it to a file of `worlds/`.

mod figures;
mod page;
mod plot;
mod rule;
mod rules;
mod run;
mod stream;
mod world;
mod worlds;

use std::{env, fs, path::Path, process::ExitCode};

/// The runs of each world.
const RUNS: usize = 400;

fn main() -> ExitCode {
    let is_check = match env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [argument] if argument == "--check" => true,
        _ => {
            eprintln!("The only argument is --check: it compares, and writes nothing.");
            return ExitCode::from(2);
        }
    };
    let worlds = world::all();
    let table = run::table(&worlds, RUNS);
    let mut files = plot::files(&worlds, &table);
    files.push(("benchmark.csv".to_owned(), page::csv(&worlds, &table)));
    files.push(("benchmark.md".to_owned(), page::markdown(&worlds, &table, RUNS)));

    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let mut is_same = true;
    for (name, content) in files {
        let path = docs.join(&name);
        if !is_check {
            fs::write(&path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        } else if fs::read_to_string(&path).ok() != Some(content) {
            eprintln!("docs/{name} is not what the benchmark computes. Run it without --check.");
            is_same = false;
        }
    }
    if is_same { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
