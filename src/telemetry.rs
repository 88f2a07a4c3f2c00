//! The tracing subscriber: log lines on standard output, as text or JSON.

use std::io::{self, IsTerminal};

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    Layer,
    filter::Targets,
    fmt::{self, time::SystemTime},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::config::LogFormat;

/// Starts the log. Lines that `filter` lets through are written by a thread of their own, so that no request
/// waits for whoever reads them; dropping the guard writes out what is left.
pub fn init(format: LogFormat, filter: Targets) -> WorkerGuard {
    let (writer, guard) = NonBlockingBuilder::default().thread_name("log").finish(io::stdout());
    let lines =
        fmt::layer().with_target(false).with_timer(SystemTime).with_writer(writer).log_internal_errors(false);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(io::stdout().is_terminal()).boxed(),
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
        }
    };
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
    guard
}
