//! Logs in logfmt, the form that containerd's own log has.

use std::fmt;

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging to standard error at a level of containerd's names.
pub(crate) fn init(level: &str) {
    let filter = match level {
        "trace" => LevelFilter::TRACE,
        "debug" => LevelFilter::DEBUG,
        "warn" | "warning" => LevelFilter::WARN,
        "error" | "fatal" | "panic" => LevelFilter::ERROR,
        _ => LevelFilter::INFO,
    };
    // Libraries tell of every frame and header from `debug` on, which buries what the daemon says.
    let mut targets = Targets::new().with_default(filter);
    for library in [
        "h2",
        "hyper",
        "hyper_util",
        "reqwest",
        "rustls",
        "tonic",
        "tower",
    ] {
        targets = targets.with_target(library, filter.min(LevelFilter::WARN));
    }
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .event_format(Logfmt);
    tracing_subscriber::registry()
        .with(lines)
        .with(targets)
        .init();
}

/// `time="…" level=info msg="…" key=value`.
#[derive(Debug)]
struct Logfmt;

impl<S, N> FormatEvent<S, N> for Logfmt
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = match *event.metadata().level() {
            Level::TRACE => "trace",
            Level::DEBUG => "debug",
            Level::INFO => "info",
            Level::WARN => "warning",
            Level::ERROR => "error",
        };
        write!(writer, "time=\"{:.9}\" level={level}", Timestamp::now())?;
        let mut fields = Fields::default();
        event.record(&mut fields);
        write!(writer, " msg={:?}{}", fields.message, fields.rest)?;
        for span in context.event_scope().into_iter().flatten() {
            let extensions = span.extensions();
            if let Some(fields) = extensions.get::<tracing_subscriber::fmt::FormattedFields<N>>() {
                write!(writer, " {}={{{}}}", span.name(), fields.fields)?;
            }
        }
        writeln!(writer)
    }
}

#[derive(Debug, Default)]
struct Fields {
    message: String,
    rest: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
            return;
        }
        let text = format!("{value:?}");
        let plain = text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._/@:+\"".contains(&byte));
        let quoted = text.starts_with('"');
        self.rest.push_str(&if plain || quoted {
            format!(" {}={text}", field.name())
        } else {
            format!(" {}={text:?}", field.name())
        });
    }
}
