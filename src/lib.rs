//! appinfo is a small service that says which pod answered. It is for learning, teaching and rehearsing canary
//! deployments.
//!
//! In reading order:
//!
//! - [`config`]: all flags and their environment variables.
//! - [`telemetry`]: the log.
//! - [`app_info`]: the answer, and its JSON.
//! - [`labels`]: the pod's labels from the downward API's file: parser, reader, and watch.
//! - [`service`]: the trait [`service::AppInfoService`], its three implementations, and the one that this build
//!   serves.
//! - [`http`]: the public router, with [`http::faults`] in front of the service, and [`http::admin`], the router for
//!   Kubernetes and Prometheus.
//! - [`server`]: both ports, the drain, and the time limits of a connection.
//! - [`signals`]: the signals that end the process.
//!
//! `main.rs` connects them.

#[cfg(not(unix))]
compile_error!("appinfo runs on Linux and macOS; on Windows, build and run it in WSL");

pub mod app_info;
pub mod config;
pub mod http;
pub mod labels;
mod process;
pub mod server;
pub mod service;
pub mod signals;
pub mod telemetry;
