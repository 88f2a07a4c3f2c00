//! The signals that end the program, and the signals of a shell's job control.

use std::io;

use rustix::process::{Signal, getpgrp, getpid, getsid, kill_current_process_group, kill_process};
use tokio::signal::unix::SignalKind;

use crate::exit::Exit;

/// The signals that end the program, each with its [`Exit`].
pub type Signals = appinfo::signals::Signals<Exit>;

/// The number of SIGINT, which Ctrl-C sends.
const INTERRUPT: u8 = 2;

/// The exit code after SIGTERM.
pub(crate) const TERMINATED: Exit = Exit::Signal(15);

/// The exit code after SIGHUP, which a terminal sends when its window is closed.
pub(crate) const HUNG_UP: Exit = Exit::Signal(1);

/// Starts to listen for SIGINT, SIGTERM, SIGHUP and SIGQUIT. A signal that was ignored when the program started
/// stays ignored: `nohup` and shells without job control rely on that. Call this within a tokio runtime.
///
/// # Errors
/// If a handler cannot be installed.
pub fn listen() -> io::Result<Signals> {
    Signals::new([
        (SignalKind::interrupt(), Exit::Signal(INTERRUPT)),
        (SignalKind::terminate(), TERMINATED),
        (SignalKind::hangup(), HUNG_UP),
        (SignalKind::quit(), Exit::Signal(3)),
    ])
}

/// The exit code of a command that runs until Ctrl-C. SIGINT is its normal end.
pub fn ended_by(signal: Exit) -> Exit {
    if signal == Exit::Signal(INTERRUPT) { Exit::Done } else { signal }
}

/// A signal of a shell's job control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// SIGTSTP: stop.
    Stop,
    /// SIGCONT: continue after a stop.
    Continue,
}

/// The signals of job control.
pub type JobControl = appinfo::signals::Signals<Job>;

/// Starts to listen for SIGTSTP and SIGCONT. From then on SIGTSTP does not stop the program by itself; call
/// [`stop`].
///
/// # Errors
/// If a handler cannot be installed.
pub fn job_control() -> io::Result<JobControl> {
    let kind = |signal: Signal| SignalKind::from_raw(signal.as_raw());
    JobControl::new([(kind(Signal::TSTP), Job::Stop), (kind(Signal::CONT), Job::Continue)])
}

/// Whether the program is a job of a shell that can continue it. Such a shell gives each job a process group of
/// its own. The shell itself is the session leader. A process that stops in the session leader's group would
/// never continue.
pub fn is_a_job() -> bool {
    getsid(None).is_ok_and(|leader| leader != getpgrp())
}

/// Does what Ctrl-Z does: stops the whole job, for example with the script that started the program. In raw
/// mode the terminal does not do this itself.
pub fn suspend_job() {
    if is_a_job() {
        let _ = kill_current_process_group(Signal::TSTP); // on an error, the program just runs on
    }
}

/// Stops the program. Returns when it is continued.
pub fn stop() {
    let _ = kill_process(getpid(), Signal::STOP); // on an error, the program just runs on
}
