//! `kubectl proxy`, which lends the user's context and credentials for reading the pods of one namespace. It listens on a
//! socket in a private folder.
//!
//! A shell starts it, and ends it when its own standard input ends. So no process and no file stays behind, whatever ends
//! canary.

use std::{
    fs::Permissions,
    io::{self, Read},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use tokio::{net::UnixStream, time::sleep};

use super::workload::is_name;
use crate::source::shown;

/// How long `kubectl proxy` may take to listen.
const START: Duration = Duration::from_secs(30);
/// How long it may take to end.
const END: Duration = Duration::from_secs(3);
/// How often it is looked at in these times.
const LOOK: Duration = Duration::from_millis(10);
/// How much of its errors is kept, in bytes.
const MAX_ERRORS: usize = 4096;

/// The name of the socket in its folder.
const SOCKET: &str = "api";

/// Runs the command after `$1`, until it ends, standard input ends, or a signal comes. Then it removes the folder `$1`.
/// It is the leader of a process group, so it ends what the command has started, too.
const GUARD: &str = r#"
folder=$1; shift
trap : HUP INT QUIT TERM
exec 3<&0
"$@" 3<&- </dev/null &
child=$!
{ cat <&3 >/dev/null; kill -TERM 0; } &
wait "$child"; code=$?
kill -TERM 0
wait
rm -f "$folder/api"; rmdir "$folder"
exit "$code"
"#;

/// kubectl's flags that choose the cluster and the user.
#[derive(Clone, Debug, Default)]
pub(super) struct Kubectl(pub(super) Vec<String>);

impl Kubectl {
    /// The namespace of the context.
    pub(super) async fn namespace(&self) -> Result<String, String> {
        let mut command = Command::new("kubectl");
        command.args(["config", "view", "--minify", "--output", "jsonpath={..namespace}"]).args(&self.0);
        command.stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || command.output());
        let output = output.await.map_err(|error| error.to_string())?.map_err(|error| not_started(&error))?;
        if !output.status.success() {
            return Err(failed(&String::from_utf8_lossy(&output.stderr), output.status));
        }
        let name = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        match name.as_str() {
            "" => Ok("default".to_owned()),
            name if is_name(name) => Ok(name.to_owned()),
            name => Err(format!("the context has no usable namespace: {}", shown::text(name))),
        }
    }
}

fn not_started(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound {
        return "kubectl is not on the PATH, and it is needed to reach the pods".to_owned();
    }
    format!("kubectl cannot be started: {error}")
}

fn failed(errors: &str, status: ExitStatus) -> String {
    match errors.trim() {
        "" => format!("kubectl has ended ({status})"),
        errors => format!("kubectl: {}", shown::text(errors.trim_start_matches("error: "))),
    }
}

/// A running `kubectl proxy`. Dropping it ends it, and waits for that.
#[derive(Debug)]
pub(super) struct Proxy {
    guard: Child,
    /// The guard ends when this is closed.
    life: Option<ChildStdin>,
    socket: PathBuf,
}

impl Proxy {
    /// Starts it, and waits until it listens. It lets pass what reads these paths, which are regular expressions.
    pub(super) async fn start(kubectl: &Kubectl, namespace: &str, paths: &[String]) -> Result<Self, String> {
        let private = Permissions::from_mode(0o700); // nobody else may enter it
        let folder = tempfile::Builder::new().prefix("canary-kubectl-").permissions(private).tempdir();
        let folder = folder.map_err(|error| format!("cannot make a folder for a socket: {error}"))?;
        let socket = folder.path().join(SOCKET);
        let mut command = Command::new("sh");
        command.args(["-c", GUARD, "canary-guard"]).arg(folder.path());
        command.args(["kubectl", "proxy", "--namespace", namespace]).args(&kubectl.0);
        command.arg(format!("--unix-socket={}", socket.display()));
        command.arg(format!("--accept-paths={}", paths.join(",")));
        // its default refuses what a pod serves at /exec; what leads out of a pod's path is refused instead
        command.args([r"--reject-paths=/\.\.(/|$)", "--reject-methods=^([^GH]|G[^E]|H[^E]).*"]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.process_group(0); // Ctrl-C in a terminal is for canary alone
        let mut guard = command.spawn().map_err(|error| format!("sh cannot be started: {error}"))?;
        let _ = folder.keep(); // the guard removes it
        let life = guard.stdin.take();
        let errors: Arc<Mutex<Vec<u8>>> = Arc::default();
        if let Some(from) = guard.stderr.take() {
            let errors = Arc::clone(&errors);
            thread::spawn(move || keep_errors(from, &errors));
        }
        let mut new = Self { guard, life, socket };
        new.until_it_listens(&errors).await?;
        Ok(new)
    }

    async fn until_it_listens(&mut self, errors: &Mutex<Vec<u8>>) -> Result<(), String> {
        let began = Instant::now();
        loop {
            if UnixStream::connect(&self.socket).await.is_ok() {
                return Ok(());
            }
            if let Ok(Some(status)) = self.guard.try_wait() {
                sleep(LOOK).await; // for the last errors
                let errors = errors.lock().unwrap_or_else(PoisonError::into_inner);
                return Err(failed(&String::from_utf8_lossy(&errors), status));
            }
            if began.elapsed() > START {
                return Err(format!("kubectl proxy does not listen after {} s", START.as_secs()));
            }
            sleep(LOOK).await;
        }
    }

    /// Whether it has ended by itself.
    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.guard.try_wait(), Ok(None))
    }

    /// Its socket.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.life = None;
        let began = Instant::now();
        while matches!(self.guard.try_wait(), Ok(None)) && began.elapsed() < END {
            thread::sleep(LOOK);
        }
    }
}

/// Keeps the first errors, and reads on, so that the writer is never blocked.
fn keep_errors(mut from: impl Read, errors: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let mut errors = errors.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MAX_ERRORS.saturating_sub(errors.len()).min(read);
        errors.extend_from_slice(&buffer[..room]);
    }
}
