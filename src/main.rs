//! The `appinfo` binary: flags, log, sockets, signals, exit code.

use std::{
    env,
    io::{self, Write},
    process::ExitCode,
};

use appinfo::{
    config::{Config, Listen},
    labels::LabelFile,
    server::{self, Server, Shutdown},
    service::{self, Pod},
    signals::Signals,
    telemetry,
};
use tokio::{net::TcpListener, pin, select, signal::unix::SignalKind, sync::oneshot};
use tracing::{info, warn};

fn main() -> ExitCode {
    let config = Config::read(env::args_os()).unwrap_or_else(|error| error.exit());
    run(config).unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "appinfo: {error}"); // eprintln! would panic if stderr is closed
        ExitCode::FAILURE
    })
}

fn run(config: Config) -> io::Result<ExitCode> {
    let _log = telemetry::init(config.log_format, config.log_filter.clone())?;
    let runtime = tokio::runtime::Runtime::new()?;
    let code = runtime.block_on(serve(config));
    runtime.shutdown_background(); // remaining tasks are cut off: the drain has ended, or a second signal came
    code
}

async fn serve(config: Config) -> io::Result<ExitCode> {
    let mut signals = Signals::new([
        (SignalKind::interrupt(), Signal::Interrupt),
        (SignalKind::terminate(), Signal::Terminate),
    ])?;
    let variable = |name| env::var_os(name).unwrap_or_default().to_string_lossy().into_owned();
    let pod = Pod {
        name: variable("MY_POD_NAME"),
        namespace: variable("MY_POD_NAMESPACE"),
        label_file: LabelFile::new(config.labels_file),
    };
    let service = service::selected();
    let public = listen(config.listen)?;
    let admin = listen(config.admin_listen)?;

    info!(
        address = %public.local_addr()?,
        admin_address = %admin.local_addr()?,
        implementation = service.name(),
        labels_file = %pod.label_file.path().display(),
        pod = pod.name,
        version = env!("CARGO_PKG_VERSION"),
        "serving"
    );
    if let Err(error) = pod.label_file.read() {
        warn!(%error, "not ready until the label file can be read (its path is set by --labels-file)");
    }
    let (shutdown_sender, shutdown) = oneshot::channel();
    let mut server = Server::new(pod, service, public, admin)?;
    server.max_connections = config.max_connections;
    server.idle_timeout = config.idle_timeout;
    server.drain_delay = config.drain_delay;
    server.drain_timeout = config.drain_timeout;
    // receiving never fails: the sender is not dropped before it has sent
    let server = server.run(async { shutdown.await.unwrap_or(Shutdown::Now) });
    pin!(server);
    select! {
        () = &mut server => return Ok(ExitCode::SUCCESS),
        signal = signals.next() => {
            info!(signal = signal.name(), "shutting down");
            let _ = shutdown_sender.send(signal.shutdown());
        }
    }
    select! {
        () = server => Ok(ExitCode::SUCCESS),
        signal = signals.next() => {
            warn!(signal = signal.name(), "second signal: exiting at once");
            Ok(signal.exit_code())
        }
    }
}

fn listen(on: Listen) -> io::Result<TcpListener> {
    server::bind(on).map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {on}: {error}")))
}

/// A signal that ends the process.
#[derive(Clone, Copy)]
enum Signal {
    Interrupt,
    Terminate,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }

    fn shutdown(self) -> Shutdown {
        match self {
            Self::Interrupt => Shutdown::Now,
            Self::Terminate => Shutdown::Drain,
        }
    }

    /// 128 plus the signal's number, as shells report a process that a signal ended.
    fn exit_code(self) -> ExitCode {
        match self {
            Self::Interrupt => ExitCode::from(128 + 2),
            Self::Terminate => ExitCode::from(128 + 15),
        }
    }
}
