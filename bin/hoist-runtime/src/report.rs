//! Failures, in the forms in which runc writes them.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use model::SystemClock;
use serde_json::json;

use crate::arguments::Flags;
use crate::commands::Failure;

/// Where failures go beside the standard error.
#[derive(Debug)]
pub(crate) struct Log {
    path: Option<PathBuf>,
    json: bool,
}

impl Log {
    pub(crate) fn new(global: &Flags) -> Self {
        Self {
            path: global
                .value(&["log"])
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
            json: global.value(&["log-format"]) == Some("json"),
        }
    }

    /// Writes the failure; the answer is the status of the program.
    pub(crate) fn failure(&self, failure: &Failure) -> ExitCode {
        let message = failure.to_string();
        let line = self.line(&message);
        if let Some(path) = &self.path {
            let written = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .and_then(|mut file| file.write_all(line.as_bytes()));
            // The standard error still tells.
            let _ignored = written;
        }
        to_stderr(&self.line(&message));
        ExitCode::from(failure.status())
    }

    fn line(&self, message: &str) -> String {
        use model::Clock;
        let now = SystemClock.now();
        let now = now.strftime("%Y-%m-%dT%H:%M:%SZ");
        if self.json {
            let record = json!({"level": "error", "msg": message, "time": now.to_string()});
            format!("{record}\n")
        } else {
            let text = json!(message);
            format!("time=\"{now}\" level=error msg={text}\n")
        }
    }
}

fn to_stderr(line: &str) {
    let _ignored = std::io::stderr().write_all(line.as_bytes());
}

/// A command line that can't be read.
pub(crate) fn usage(message: &str) -> ExitCode {
    to_stderr(&format!(
        "hoist-runtime: {message}\nusage: hoist-runtime [global flags] create|start|run|exec|kill|delete|state|list|ps|pause|resume|update|spec|features|events [flags] [container] ...\n"
    ));
    ExitCode::FAILURE
}
