//! canary watches a rollout, judges it, and rehearses it with no cluster.
//!
//! In reading order:
//!
//! - [`config`]: every flag. [`exit`]: every exit code. [`signals`]: what else ends the program.
//! - [`sample`]: requests, and what comes of each.
//! - [`tally`]: what has been seen so far.
//! - [`judge`]: what may be said of it, by statistics that stay valid however often one looks.
//! - [`trial`]: both of these together.
//! - [`watch`] shows them: as a [`picture`] in a [`terminal`], or as a [`report`] of JSON lines.
//! - [`commands::judge`] turns them into an exit code.
//! - [`release`]: the two sides of a rollout, and counts.
//! - [`rehearse`] plays the story that there is to watch.
//!
//! `main.rs` puts them together.

pub mod commands;
pub mod config;
pub mod exit;
pub mod judge;
pub mod picture;
pub mod rehearse;
pub mod release;
pub mod report;
pub mod sample;
pub mod signals;
pub mod tally;
pub mod terminal;
pub mod trial;
pub mod watch;
