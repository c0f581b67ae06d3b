//! What the libraries warn of, on stderr, in the style of everything else that is printed.

use std::env;
use std::fmt;

use fovea_tools::terminal::Stderr;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// Prints our warnings, and the errors of ONNX Runtime, which warns of many graphs that are fine; `RUST_LOG`
/// shows more.
pub fn print_to_stderr() {
    let asked = env::var("RUST_LOG").ok().and_then(|text| text.parse::<Targets>().ok());
    let filter = asked.unwrap_or_else(|| {
        Targets::new().with_default(LevelFilter::WARN).with_target("ort", LevelFilter::ERROR)
    });
    let layer =
        tracing_subscriber::fmt::layer().with_writer(|| Stderr).event_format(Line).with_filter(filter);
    tracing_subscriber::registry().with(layer).init();
}

/// `warning: message`; from other libraries, `warning: library: message`.
struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        };
        write!(writer, "{level}: ")?;
        let target = event.metadata().target();
        if !target.starts_with("fovea") {
            write!(writer, "{target}: ")?;
        }
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}
