//! The signals that end the program in good order, and those of a shell's job control.

use std::io;

use rustix::process::{Signal, getpgrp, getpid, getsid, kill_current_process_group, kill_process};
use tokio::signal::unix::SignalKind;

use crate::exit::Exit;

/// The signals that end the program, each as the [`Exit`] it leads to.
pub type Signals = appinfo::signals::Signals<Exit>;

/// The number of SIGINT: Ctrl-C.
const INTERRUPT: u8 = 2;

/// What SIGTERM leads to.
pub(crate) const TERMINATED: Exit = Exit::Signal(15);

/// Begins to listen for SIGINT, SIGTERM, SIGHUP and SIGQUIT, but for those that were ignored when the program began, as
/// `nohup` and shells without job control have it. To be called within a tokio runtime.
///
/// # Errors
/// If the system allows no handler.
pub fn listen() -> io::Result<Signals> {
    Signals::new([
        (SignalKind::interrupt(), Exit::Signal(INTERRUPT)),
        (SignalKind::terminate(), TERMINATED),
        (SignalKind::hangup(), Exit::Signal(1)),
        (SignalKind::quit(), Exit::Signal(3)),
    ])
}

/// How something ends that runs until it is told to: Ctrl-C is the way to tell it.
pub fn ended_by(signal: Exit) -> Exit {
    if signal == Exit::Signal(INTERRUPT) { Exit::Done } else { signal }
}

/// What a shell's job control does to the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// It is to stop: SIGTSTP.
    Stop,
    /// It goes on after it was stopped: SIGCONT.
    Continue,
}

/// The signals of job control.
pub type JobControl = appinfo::signals::Signals<Job>;

/// Begins to listen for SIGTSTP and SIGCONT. From then on SIGTSTP stops the program only by [`stop`].
///
/// # Errors
/// If the system allows no handler.
pub fn job_control() -> io::Result<JobControl> {
    let kind = |signal: Signal| SignalKind::from_raw(signal.as_raw());
    JobControl::new([(kind(Signal::TSTP), Job::Stop), (kind(Signal::CONT), Job::Continue)])
}

/// Whether the program is a job of a shell that can continue it: such a shell gives each job a process group, other than
/// that of the session's leader, which is the shell's own. Stopped in the latter, it would stay so for ever.
pub fn is_a_job() -> bool {
    getsid(None).is_ok_and(|leader| leader != getpgrp())
}

/// What Ctrl-Z does where the terminal does not do it: asks all of the job to stop, such as the script that started the
/// program.
pub fn suspend_job() {
    if is_a_job() {
        let _ = kill_current_process_group(Signal::TSTP); // it stays as it is
    }
}

/// Stops the program. Returns when it is continued.
pub fn stop() {
    let _ = kill_process(getpid(), Signal::STOP); // it stays as it is
}
