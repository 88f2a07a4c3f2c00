//! canary watches a rollout, judges it, and rehearses it without a cluster.
//!
//! In reading order:
//!
//! - [`cli`]: the command line. [`exit`]: all exit codes. [`signals`]: the signals that end the program. [`messages`]:
//!   messages on standard error. [`output`]: standard output. [`foreign`]: text from others, made safe and bounded.
//! - [`commands`]: watch, judge, serve and rehearse, one file each, with its flags in `commands/NAME/flags.rs`. They use
//!   the modules below.
//! - [`source`]: where outcomes come from: [`source::probe`] sends requests to a URL, [`source::pods`] to the pods of
//!   workloads, [`source::prometheus`] reads counters, [`source::lines`] reads collected outcomes. Each has its flags in
//!   its own `flags.rs`. [`source::flags`] lists them.
//! - [`trial`]: a canary on trial: what was counted ([`trial::tally`]), and the judge of the same requests, which is the
//!   package `canary-judge`.
//! - [`view`]: shows a trial as a picture in a terminal, as lines of JSON, or as a page.
//! - [`serve`]: a server that keeps watching, and shows the result on a page and in an API.
//! - [`rehearse`]: the steps of the walkthrough, with pods in this process.
//!
//! `main.rs` is the program.

pub mod cli;
pub mod commands;
pub mod exit;
pub mod foreign;
pub mod messages;
mod moment;
pub mod output;
pub mod rehearse;
pub mod serve;
pub mod signals;
pub mod source;
pub mod trial;
pub mod view;
