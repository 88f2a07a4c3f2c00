//! canary watches a rollout, judges it, and rehearses it without a cluster.
//!
//! In reading order:
//!
//! - [`cli`]: all flags. [`exit`]: all exit codes. [`signals`]: the signals that end the program. [`messages`]:
//!   messages on standard error. [`foreign`]: text from others, made safe and bounded. [`shortage`]: shortages of this
//!   machine.
//! - [`commands`]: watch, judge, serve and rehearse, one file each. They use the modules below.
//! - [`source`]: where outcomes come from. [`source::probe`] sends requests.
//! - [`tally`]: counts, latencies and pods so far.
//! - [`trial`]: a tally and a judge of the same requests.
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
pub mod rehearse;
pub mod serve;
pub mod shortage;
pub mod signals;
pub mod source;
pub mod tally;
pub mod trial;
pub mod view;
