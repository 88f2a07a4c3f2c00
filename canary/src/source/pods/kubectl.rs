//! `kubectl proxy`, which lends the user's context and credentials for reading the pods of one namespace. It listens on a
//! socket in a private folder. If it ends by itself, it is started again, a few times.
//!
//! A shell starts kubectl, and ends it when its own standard input ends. So no process and no file stays behind, whatever
//! ends canary.

use std::{
    fmt,
    fs::{File, Permissions},
    io::Read,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    pin::Pin,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use tokio::{
    net::UnixStream,
    time::{Interval, interval, sleep},
};

use super::workload::is_name;
use crate::source::shown;

/// How long `kubectl proxy` may take to listen, and `kubectl config` to end.
const START: Duration = Duration::from_secs(30);
/// How long they may take to end. The guard kills them after two seconds.
const END: Duration = Duration::from_secs(4);
/// How often they are looked at in these times.
const LOOK: Duration = Duration::from_millis(10);
/// How often a running `kubectl proxy` is looked at.
const LOOK_AT_RUNNING: Duration = Duration::from_millis(200);
/// How often it is started again without having run for [`CALM`].
const MOST_STARTS: u32 = 5;
/// The time before the first of these starts. It doubles from one to the next.
const PAUSE: Duration = Duration::from_millis(200);
const CALM: Duration = Duration::from_secs(60);
/// How much of what kubectl writes is kept, in bytes. It may be the names of thousands of contexts.
const MAX_KEPT: usize = 1 << 20;

/// The name of the socket in its folder.
const SOCKET: &str = "api";

/// Runs the command after `$1`, until it ends, standard input ends, or a signal comes. Then it removes the folder `$1`.
/// It is the leader of a process group, so it ends what the command has started, too. A signal is lost between two
/// commands of a shell, so it is sent again and again; and a command that ignores it is killed. The guard itself writes
/// nothing: nobody may be there to read it, and that would end it.
const GUARD: &str = r#"
folder=$1; shift
trap : HUP INT QUIT TERM
exec 3<&0 4>&2 2>/dev/null
"$@" 3<&- 2>&4 4>&- </dev/null &
child=$!
{ trap : TERM; read -r end <&3; while kill -0 "$$"; do kill -TERM 0; sleep 0.1; done; } &
watcher=$!
wait "$child"; code=$?
kill -TERM 0
looks=0
while kill -0 "$child" && [ "$looks" -lt 20 ]; do sleep 0.1; looks=$((looks + 1)); done
kill -KILL "$watcher"; wait "$watcher"
[ -z "$folder" ] || { rm -f "$folder/api"; rmdir "$folder"; }
kill -0 "$child" && kill -KILL 0
exit "$code"
"#;

/// kubectl's flags that choose the cluster and the user.
#[derive(Clone, Debug, Default)]
pub(super) struct Kubectl(pub(super) Vec<String>);

/// What a context chooses.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) namespace: String,
    /// The URL of the API server.
    pub(super) server: String,
}

impl Kubectl {
    /// What these flags choose.
    pub(super) async fn context(&self) -> Result<Context, String> {
        const FIELDS: &str = r#"{.contexts[0].context.namespace}{"\n"}{.clusters[0].cluster.server}"#;
        let arguments =
            ["config", "view", "--minify", "--output", &format!("jsonpath={FIELDS}")].map(str::to_owned);
        let (kubectl, status) = ended(arguments.into_iter().chain(self.0.iter().cloned())).await?;
        if !status.success() {
            let why = kubectl.why(status);
            return Err(self.why_no_context(&why).await.unwrap_or(why));
        }
        let output = kubectl.output.text();
        let (namespace, server) = output.split_once('\n').unwrap_or((&output, ""));
        let namespace = match namespace.trim() {
            "" => "default",
            name if is_name(name) => name,
            name => return Err(format!("the context has no usable namespace: {}", shown::text(name))),
        };
        Ok(Context { namespace: namespace.to_owned(), server: server.trim().to_owned() })
    }

    /// Why these flags choose no context, if that is because of the kubeconfig or the context. `why` is what kubectl says.
    async fn why_no_context(&self, why: &str) -> Option<String> {
        let given = |flag: &str| self.0.iter().find_map(|one| one.strip_prefix(flag));
        let file = given("--kubeconfig=");
        // kubectl takes a file that is not there for an empty one
        if let Some(file) = file
            && let Err(error) = File::open(file)
        {
            return Some(format!("cannot read --kubeconfig {}: {error}", shown::text(file)));
        }
        let arguments = ["config", "get-contexts", "--output=name"].map(str::to_owned).into_iter();
        let arguments = arguments.chain(file.map(|file| format!("--kubeconfig={file}")));
        let (kubectl, status) = ended(arguments).await.ok()?;
        if !status.success() {
            return None;
        }
        let output = kubectl.output.text();
        let names: Vec<_> = output.lines().map(str::trim).filter(|name| !name.is_empty()).collect();
        if names.is_empty() {
            return Some(match (file, std::env::var("KUBECONFIG").ok().filter(|list| !list.is_empty())) {
                (Some(file), _) => format!("--kubeconfig {} has no context", shown::text(file)),
                (None, Some(list)) => format!("there is no context in KUBECONFIG={}", shown::text(&list)),
                (None, None) => {
                    "there is no kubeconfig with a context in ~/.kube/config: --kubeconfig FILE or the \
                                 variable KUBECONFIG names another file"
                        .to_owned()
                }
            });
        }
        let there_is = shown::there_is(names.iter().copied());
        match given("--context=") {
            Some(context) if names.contains(&context) => None,
            Some(context) => Some(format!("there is no context {}{there_is}", shown::text(context))),
            None if why.contains(NO_CURRENT_CONTEXT) => {
                Some(format!("the kubeconfig has no current context: --context NAME chooses one{there_is}"))
            }
            None => Some(format!("{why}: --context NAME chooses another one{there_is}")),
        }
    }
}

/// What kubectl says if no context is chosen.
const NO_CURRENT_CONTEXT: &str = "current-context must exist";

/// Runs `kubectl config` with these arguments, and waits for its end.
async fn ended(arguments: impl IntoIterator<Item = String>) -> Result<(Guarded, ExitStatus), String> {
    let mut kubectl = Guarded::start(None, arguments)?;
    let began = Instant::now();
    loop {
        if let Some(status) = kubectl.ended() {
            return Ok((kubectl, status));
        }
        if began.elapsed() > START {
            return Err(format!("kubectl config does not end after {} s", START.as_secs()));
        }
        sleep(LOOK).await;
    }
}

/// What a process has written, up to a limit.
struct Written {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: thread::JoinHandle<()>,
}

impl Written {
    /// Keeps the first bytes, and reads on, so that the writer is never blocked.
    fn of(from: Option<impl Read + Send + 'static>) -> Self {
        let bytes: Arc<Mutex<Vec<u8>>> = Arc::default();
        let kept = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let Some(mut from) = from else { return };
            let mut buffer = [0; 1024];
            while let Ok(read @ 1..) = from.read(&mut buffer) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                let room = MAX_KEPT.saturating_sub(kept.len()).min(read);
                kept.extend_from_slice(&buffer[..room]);
            }
        });
        Self { bytes, reader }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

/// A running kubectl with its guard. Dropping it ends both, and waits for that.
struct Guarded {
    guard: Child,
    /// The guard ends when this is closed.
    life: Option<ChildStdin>,
    output: Written,
    errors: Written,
}

impl Guarded {
    /// Starts kubectl with these arguments. The guard removes the folder.
    fn start(folder: Option<&Path>, arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut command = Command::new("sh");
        command.args(["-c", GUARD, "canary-guard"]).arg(folder.unwrap_or(Path::new("")));
        command.arg("kubectl").args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0); // Ctrl-C in a terminal is for canary alone
        let mut guard = command.spawn().map_err(|error| format!("sh cannot be started: {error}"))?;
        Ok(Self {
            life: guard.stdin.take(),
            output: Written::of(guard.stdout.take()),
            errors: Written::of(guard.stderr.take()),
            guard,
        })
    }

    /// How it has ended, once all that it wrote was read.
    fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.guard.try_wait().ok()??;
        (self.output.reader.is_finished() && self.errors.reader.is_finished()).then_some(status)
    }

    /// Why it has ended.
    fn why(&self, status: ExitStatus) -> String {
        let errors = self.errors.text();
        match errors.trim() {
            _ if status.code() == Some(127) => {
                "kubectl is not on the PATH, and it is needed to reach the pods".to_owned()
            }
            "" => format!("kubectl has ended ({status})"),
            errors => format!("kubectl: {}", shown::text(errors.trim_start_matches("error: "))),
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.life = None;
        let began = Instant::now();
        while matches!(self.guard.try_wait(), Ok(None)) && began.elapsed() < END {
            thread::sleep(LOOK);
        }
    }
}

/// The socket of the `kubectl proxy` that runs now. One that is started again has another.
#[derive(Clone, Debug, Default)]
pub(super) struct Socket(Arc<Mutex<PathBuf>>);

impl Socket {
    pub(super) fn path(&self) -> PathBuf {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, path: PathBuf) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = path;
    }
}

/// How `kubectl proxy` is started.
#[derive(Clone, Debug)]
struct Start {
    kubectl: Kubectl,
    namespace: String,
    /// What it lets pass, as regular expressions.
    paths: String,
}

impl Start {
    /// Starts it, and waits until it listens. Returns its socket, too.
    async fn run(self) -> Result<(Guarded, PathBuf), String> {
        let private = Permissions::from_mode(0o700); // nobody else may enter it
        let folder = tempfile::Builder::new().prefix("canary-kubectl-").permissions(private).tempdir();
        let folder = folder.map_err(|error| format!("cannot make a folder for a socket: {error}"))?;
        let socket = folder.path().join(SOCKET);
        let arguments = ["proxy", "--namespace", &self.namespace].map(str::to_owned).into_iter();
        let arguments = arguments.chain(self.kubectl.0).chain([
            format!("--unix-socket={}", socket.display()),
            format!("--accept-paths={}", self.paths),
            // its default refuses what a pod serves at /exec; what leads out of a pod's path is refused instead
            r"--reject-paths=/\.\.(/|$)".to_owned(),
            "--reject-methods=^([^GH]|G[^E]|H[^E]).*".to_owned(),
        ]);
        let mut proxy = Guarded::start(Some(folder.path()), arguments)?;
        let _ = folder.keep(); // the guard removes it
        let began = Instant::now();
        loop {
            if let Some(status) = proxy.ended() {
                return Err(proxy.why(status));
            }
            if UnixStream::connect(&socket).await.is_ok() {
                return Ok((proxy, socket));
            }
            if began.elapsed() > START {
                return Err(format!("kubectl proxy does not listen after {} s", START.as_secs()));
            }
            sleep(LOOK).await;
        }
    }
}

type Starting = Pin<Box<dyn Future<Output = Result<(Guarded, PathBuf), String>> + Send + Sync>>;

enum State {
    Runs(Guarded, Instant),
    Starts(Starting),
    Ended,
}

/// A `kubectl proxy` that is started again if it ends by itself. Dropping it ends it, and waits for that.
pub(super) struct Proxy {
    start: Start,
    socket: Socket,
    state: State,
    looks: Interval,
    /// How often it was started again since it ran for [`CALM`].
    starts: u32,
}

/// What happens to `kubectl proxy`, in words.
#[derive(Debug)]
pub(super) enum News {
    /// It has ended, and is started again.
    Again(String),
    /// It is not started again.
    End(String),
}

impl Proxy {
    /// Starts it, and waits until it listens. It lets pass what reads these paths, which are regular expressions.
    pub(super) async fn start(kubectl: &Kubectl, namespace: &str, paths: &[String]) -> Result<Self, String> {
        let start =
            Start { kubectl: kubectl.clone(), namespace: namespace.to_owned(), paths: paths.join(",") };
        let (guarded, path) = start.clone().run().await?;
        let socket = Socket::default();
        socket.set(path);
        let state = State::Runs(guarded, Instant::now());
        Ok(Self { start, socket, state, looks: interval(LOOK_AT_RUNNING), starts: 0 })
    }

    /// Its socket.
    pub(super) fn socket(&self) -> Socket {
        self.socket.clone()
    }

    /// Waits until something happens to it. Cancel-safe.
    pub(super) async fn news(&mut self) -> News {
        loop {
            let why = match &mut self.state {
                State::Runs(guarded, since) => {
                    self.looks.tick().await;
                    let Some(status) = guarded.ended() else { continue };
                    if since.elapsed() >= CALM {
                        self.starts = 0;
                    }
                    guarded.why(status)
                }
                State::Starts(starting) => match starting.await {
                    Ok((guarded, path)) => {
                        self.socket.set(path);
                        self.state = State::Runs(guarded, Instant::now());
                        continue;
                    }
                    Err(why) => why,
                },
                State::Ended => std::future::pending().await,
            };
            let why = format!("kubectl proxy has ended, so no request can be sent: {why}");
            if self.starts == MOST_STARTS {
                self.state = State::Ended;
                return News::End(format!("{why}. It was started again {MOST_STARTS} times"));
            }
            let (start, pause) = (self.start.clone(), PAUSE * (1 << self.starts));
            self.starts += 1;
            self.state = State::Starts(Box::pin(async move {
                sleep(pause).await;
                start.run().await
            }));
            return News::Again(format!("{why}. It is started again"));
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("start", &self.start).finish_non_exhaustive()
    }
}
