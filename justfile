# Shortcuts for the commands of CONTRIBUTING.md. `just` lists them. You do not need just: each line is a usual command.

# Lists the recipes.
default:
    @just --list

# Installs the programs that the tests use (Debian), and compiles everything once.
setup:
    bash .ci/run packages
    cargo build --workspace --all-targets

# The formatter, the lints and the tests: before each commit.
test:
    cargo fmt --all
    cargo clippy -q --workspace --all-targets -- -D warnings
    cargo test

# The tests that run only by name, and need no Docker and no cluster.
test-slow:
    cargo test --test monitoring
    cargo test -p canary --test page
    cargo test -p canary --test scrapes
    cargo test --release --test endurance -- --nocapture
    SIMULATION_RUNS=10000 cargo test -p canary-judge --test guarantees -- --nocapture
    SIMULATION_RUNS=150 cargo test -p canary-judge --test scrapes -- --nocapture

# The tests that need Docker and the cluster of kubectl.
test-cluster:
    bash .ci/run images walkthrough schemas

# All stages of the CI, or those that you name: `just ci lints tests`.
ci *stages:
    bash .ci/run {{stages}}

# What a request costs. Needs two processors that do nothing else.
bench:
    cargo bench
