//! `hoist stop`.

use std::time::Duration;

use anyhow::bail;
use client::Error;
use proto::containerd::services::containers::v1::Container;
use proto::containerd::services::tasks::v1::{KillRequest, WaitRequest};
use tonic::Code;

use crate::cli::StopArgs;
use crate::context::Context;
use crate::output;

/// Time for a killed process to be gone.
const KILLED: Duration = Duration::from_secs(10);

/// Stops containers, each with its own time to end; goes on with the others when one fails.
pub(crate) async fn stop(context: &Context, args: &StopArgs) -> anyhow::Result<()> {
    let mut failures = Vec::new();
    for name in &args.containers {
        let stopped = async {
            let container = context.container(name).await?;
            end(
                context,
                &container,
                args.signal.as_deref(),
                Duration::from_secs(args.time),
            )
            .await?;
            anyhow::Ok(output::print(&format!("{}\n", container.id))?)
        };
        if let Err(error) = stopped.await {
            failures.push(format!("{error:#}"));
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        bail!("{}", failures.join("\nhoist: "))
    }
}

/// Asks the first process to end, and kills all of them after the time.
pub(crate) async fn end(
    context: &Context,
    container: &Container,
    asked: Option<&str>,
    patience: Duration,
) -> anyhow::Result<()> {
    let own = container
        .labels
        .get("io.containerd.image.config.stop-signal")
        .map(String::as_str);
    let signal = number(asked.or(own).unwrap_or("SIGTERM"))?;
    let id = &container.id;
    let mut waiting = context.client.tasks();
    let request = WaitRequest {
        container_id: id.clone(),
        exec_id: String::new(),
    };
    let mut waiting = tokio::spawn(async move { waiting.wait(request).await });
    for (signal, all, limit) in [(signal, false, patience), (9, true, KILLED)] {
        let request = KillRequest {
            container_id: id.clone(),
            exec_id: String::new(),
            signal,
            all,
        };
        match context.client.tasks().kill(request).await {
            Ok(_) => {}
            // It is not running, which is what was asked for.
            Err(status) if status.code() == Code::NotFound => return Ok(()),
            Err(status) => return Err(Error::call(format!("signal {id:?}"))(status).into()),
        }
        match tokio::time::timeout(limit, &mut waiting).await {
            Ok(Ok(Ok(_))) => return Ok(()),
            Ok(Ok(Err(status))) if status.code() == Code::NotFound => return Ok(()),
            Ok(Ok(Err(status))) => {
                return Err(Error::call(format!("wait for {id:?}"))(status).into());
            }
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => {}
        }
    }
    bail!(
        "{id:?} does not end within {KILLED:?} of being killed: a process of it may hang in the kernel"
    )
}

/// The number of a signal by name, with or without `SIG`, or by number (`signal(7)`).
pub(crate) fn number(name: &str) -> anyhow::Result<u32> {
    const NAMES: &[(&str, u32)] = &[
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("ILL", 4),
        ("TRAP", 5),
        ("ABRT", 6),
        ("BUS", 7),
        ("FPE", 8),
        ("KILL", 9),
        ("USR1", 10),
        ("SEGV", 11),
        ("USR2", 12),
        ("PIPE", 13),
        ("ALRM", 14),
        ("TERM", 15),
        ("CHLD", 17),
        ("CONT", 18),
        ("STOP", 19),
        ("TSTP", 20),
        ("TTIN", 21),
        ("TTOU", 22),
        ("URG", 23),
        ("XCPU", 24),
        ("XFSZ", 25),
        ("VTALRM", 26),
        ("PROF", 27),
        ("WINCH", 28),
        ("IO", 29),
        ("PWR", 30),
        ("SYS", 31),
        ("RTMIN", 34),
        ("RTMAX", 64),
    ];
    if let Ok(number) = name.parse::<u32>() {
        anyhow::ensure!(
            (1..=64).contains(&number),
            "signal {number} is not between 1 and 64"
        );
        return Ok(number);
    }
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = bare
        .strip_prefix("RTMIN+")
        .and_then(|offset| offset.parse::<u32>().ok())
        .filter(|offset| *offset <= 30)
    {
        return Ok(34 + offset);
    }
    match NAMES.iter().find(|(known, _)| *known == bare) {
        Some((_, number)) => Ok(*number),
        None => bail!("signal {name:?} is not known"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (name, expected) in [("SIGTERM", 15), ("kill", 9), ("3", 3), ("SIGRTMIN+3", 37)] {
            assert_eq!(number(name).unwrap(), expected, "{name}");
        }
        for wrong in ["", "0", "65", "SIGNOTHING", "RTMIN+99"] {
            assert!(number(wrong).is_err(), "{wrong}");
        }
    }
}
