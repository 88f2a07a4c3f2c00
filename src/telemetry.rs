//! The tracing subscriber: log lines on standard output, as text or JSON.

mod writer;

use std::{
    env, fmt,
    io::{self, IsTerminal},
    time::SystemTime,
};

use tracing_subscriber::{
    Layer,
    field::MakeExt,
    filter::Targets,
    fmt::{
        format::{Writer, debug_fn},
        layer,
        time::FormatTime,
    },
    layer::SubscriberExt,
    util::SubscriberInitExt,
};
pub use writer::Flush;

use crate::config::LogFormat;

/// Starts the log with this filter. Keep the returned guard until the process ends: dropping it writes the last
/// lines.
///
/// # Errors
/// If the log's thread cannot be started.
pub fn init(format: LogFormat, filter: Targets) -> io::Result<Flush> {
    let (writer, flush) = writer::start(io::stdout())?;
    let lines =
        layer().with_target(false).with_timer(Microseconds).with_writer(writer).log_internal_errors(false);
    let lines = match format {
        LogFormat::Text if colours() => lines.boxed(),
        LogFormat::Text => {
            // Fields have the same form as by default. The default formatter also writes empty styles, which takes a
            // third of a line's instructions.
            let fields = debug_fn(|to, field, value| match field.name() {
                "message" => write!(to, "{value:?}"),
                name => write!(to, "{name}={value:?}"),
            });
            lines.with_ansi(false).fmt_fields(fields.delimited(" ")).boxed()
        }
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
        }
    };
    tracing_subscriber::registry().with(filter).with(lines).init();
    Ok(flush)
}

/// Whether standard output is a terminal that supports colours, and the user has not disabled them
/// (<https://no-color.org>).
fn colours() -> bool {
    let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && !unwanted && env::var_os("TERM").is_none_or(|terminal| terminal != "dumb")
}

/// Timestamps such as `2026-11-24T12:00:00.000000Z`.
struct Microseconds;

impl FormatTime for Microseconds {
    fn format_time(&self, to: &mut Writer<'_>) -> fmt::Result {
        write!(to, "{}", humantime::format_rfc3339_micros(SystemTime::now()))
    }
}
