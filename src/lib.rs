//! appinfo says which pod answered: the service with which people learn, teach and rehearse canary
//! deployments.
//!
//! In reading order:
//!
//! - [`config`]: every flag and its variable.
//! - [`telemetry`]: the log.
//! - [`app_info`]: the answer, and its JSON.
//! - [`labels`]: the pod's labels, from the downward API's file: the parser, the file, how it is watched.
//! - [`service`]: the trait [`service::AppInfoService`], its three implementations, and which of them this build
//!   serves.
//! - [`http`]: the public router, with [`http::faults`] in front of the service, and [`http::admin`], the router for
//!   Kubernetes and Prometheus.
//! - [`server`]: both ports, the drain, and the time limits of a connection.
//! - [`signals`]: what ends the process.
//!
//! `main.rs` puts them together.

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
