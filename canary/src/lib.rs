//! canary watches a rollout, judges it, and rehearses it with no cluster.
//!
//! In reading order:
//!
//! - [`cli`]: every flag. [`exit`]: every exit code. [`signals`]: what else ends the program. [`messages`]: what is
//!   told beside the output.
//! - [`commands`]: watch, judge, serve and rehearse, one file each; they put together what follows.
//! - [`release`]: the two sides of a rollout, who a request is attributed to, and counts.
//! - [`source`]: where outcomes come from. [`source::probe`] sends requests.
//! - [`tally`]: what has been seen so far.
//! - [`judge`]: what may be said of it: the decision, by statistics that stay valid however often one looks.
//! - [`trial`]: both of these together.
//! - [`view`]: how a trial is shown, as a picture in a terminal, as lines of JSON or as a page.
//! - [`serve`]: a server that keeps watching, and tells others.
//! - [`rehearse`]: the steps of the walkthrough, on pods in this process.
//!
//! `main.rs` is the program.

pub mod cli;
pub mod commands;
pub mod exit;
pub mod judge;
pub mod messages;
pub mod rehearse;
pub mod release;
pub mod serve;
pub mod signals;
pub mod source;
pub mod tally;
pub mod trial;
pub mod view;
