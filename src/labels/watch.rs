//! Detects whether a file has changed, by inotify. This is available on Linux only.
//!
//! This is the one clever room of the service. It buys two things at once: each answer has the labels as they are at
//! that moment, and an answer costs little more than one of bare hyper. Without it, the file is read for each request,
//! which costs more than the rest of the answer (docs/measurements.md).

#[cfg(target_os = "linux")]
mod inotify;
#[cfg(target_os = "linux")]
pub(super) use inotify::Watch;

#[cfg(not(target_os = "linux"))]
mod unsupported;
#[cfg(not(target_os = "linux"))]
pub(super) use unsupported::Watch;
