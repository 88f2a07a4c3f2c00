//! The tracing subscriber: log lines on standard output, as text or JSON.

mod writer;

use std::io::{self, IsTerminal};

use tracing_subscriber::{
    Layer,
    filter::Targets,
    fmt::{self, time::SystemTime},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};
pub use writer::Flush;

use crate::config::LogFormat;

/// Starts the log, with the lines that `filter` lets through. To be kept until the end.
///
/// # Errors
/// If there is no thread to be had for it.
pub fn init(format: LogFormat, filter: Targets) -> io::Result<Flush> {
    let (writer, flush) = writer::start(io::stdout())?;
    let lines =
        fmt::layer().with_target(false).with_timer(SystemTime).with_writer(writer).log_internal_errors(false);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(io::stdout().is_terminal()).boxed(),
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
        }
    };
    tracing_subscriber::registry().with(filter).with(lines).init();
    Ok(flush)
}
