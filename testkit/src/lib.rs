//! What the tests of the packages share. No program uses it.
//!
//! - [`eventually`] waits for a condition. Tests never wait for a fixed time instead.
//! - [`labels`]: the label file of a pod, written as the kubelet writes it.
//! - [`http`]: an HTTP client with access to all bytes.
//! - [`prometheus`]: a real Prometheus.
#![allow(clippy::missing_panics_doc, reason = "a helper panics where the test that uses it must fail")]

pub mod http;
pub mod labels;
pub mod prometheus;

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::{self, Child},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// The time after which a condition counts as never true. It is long enough for a very busy machine: beside twenty
/// programs on two cores, what takes 14 s otherwise has taken more than 120 s.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// The time between two checks of a condition.
const PAUSE: Duration = Duration::from_millis(10);

/// Waits for a condition, for [`PATIENCE`] at most.
#[track_caller]
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    eventually_within(PATIENCE, what, condition);
}

/// Waits for a condition, for `time` at most. Returns how long it took.
#[track_caller]
pub fn eventually_within(time: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < time, "timed out waiting for: {what}");
        thread::sleep(PAUSE);
    }
    start.elapsed()
}

/// An address of 127.0.0.1 where nobody listens: for a process that does not tell which port it has chosen, for one that
/// restarts on its port, or for requests that are refused.
///
/// No other test gets the port in the meantime: the ports are below those that Linux chooses itself (32768 to 60999, in
/// `ip_local_port_range`), and each process has 64 of its own.
pub fn free_port() -> SocketAddr {
    const FIRST: u32 = 10_000;
    const BLOCKS: u32 = 312;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    loop {
        let next = process::id() % BLOCKS * 64 + TAKEN.fetch_add(1, Ordering::Relaxed) % 64;
        let port = u16::try_from(FIRST + next).expect("at most 29,967");
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return listener.local_addr().expect("its address");
        }
    }
}

/// Sends a signal to a process that has not been waited for.
#[track_caller]
pub fn signal(process: &Child, signal: Signal) {
    kill_process(Pid::from_child(process), signal).expect("it runs");
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn a_condition_that_is_never_true_fails_the_test_and_is_named() {
        let waiting = || eventually_within(Duration::from_millis(30), "a miracle", || false);
        let panic = catch_unwind(waiting).expect_err("it is never true");
        let message = panic.downcast_ref::<String>().expect("a text");
        assert_eq!(message, "timed out waiting for: a miracle");
    }

    #[test]
    fn a_condition_is_checked_until_it_is_true() {
        let mut checks = 0;
        eventually("the third check", || {
            checks += 1;
            checks == 3
        });
        assert_eq!(checks, 3);
    }
}
