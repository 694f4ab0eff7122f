//! A pull as it goes: bars on a terminal, plain lines elsewhere.

use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use proto::containerd::types::transfer::Progress;
use tokio::sync::mpsc;

use crate::output::size;

/// How often the terminal is redrawn.
const REDRAW: Duration = Duration::from_millis(100);
/// Columns of a bar.
const BAR_COLUMNS: usize = 24;
/// Objects shown; an image with more layers shows the newest.
const LINES_MAX: usize = 100;

#[derive(Debug)]
struct Object {
    name: String,
    stage: String,
    done: i64,
    total: i64,
    began: Instant,
}

/// Draws what arrives until the sender is gone.
pub(crate) async fn show(mut reports: mpsc::Receiver<Progress>, quiet: bool) -> io::Result<()> {
    let terminal = io::stderr().is_terminal();
    let mut objects: Vec<Object> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut drawn = 0;
    let mut last = Instant::now();
    while let Some(report) = reports.recv().await {
        if quiet {
            continue;
        }
        let name = short(&report);
        if name.is_empty() {
            if !terminal {
                writeln!(io::stderr(), "{}", report.event)?;
            }
            continue;
        }
        let place = *places.entry(name.clone()).or_insert_with(|| {
            objects.push(Object {
                name,
                stage: String::new(),
                done: 0,
                total: 0,
                began: Instant::now(),
            });
            objects.len() - 1
        });
        let object = &mut objects[place];
        let changed = object.stage != report.event;
        if changed {
            object.began = Instant::now();
        }
        object.stage.clone_from(&report.event);
        (object.done, object.total) = (report.progress, report.total);
        if terminal {
            if changed || last.elapsed() >= REDRAW {
                drawn = draw(&objects, drawn)?;
                last = Instant::now();
            }
        } else if changed {
            writeln!(
                io::stderr(),
                "{}: {} {}",
                object.name,
                object.stage,
                amounts(object)
            )?;
        }
    }
    if terminal && !quiet {
        draw(&objects, drawn)?;
    }
    Ok(())
}

/// A digest's first digits, or the name.
fn short(report: &Progress) -> String {
    let text = report
        .desc
        .as_ref()
        .map_or(report.name.as_str(), |descriptor| {
            descriptor.digest.as_str()
        });
    text.rsplit_once("sha256:")
        .map_or(text, |(_, hex)| hex.get(..12).unwrap_or(hex))
        .to_owned()
}

fn amounts(object: &Object) -> String {
    let bytes = |count: i64| size(count.unsigned_abs());
    if object.total > 0 {
        format!("{}/{}", bytes(object.done), bytes(object.total))
    } else {
        bytes(object.done)
    }
}

fn draw(objects: &[Object], drawn: usize) -> io::Result<usize> {
    let mut text = String::new();
    if drawn > 0 {
        text.push_str(&format!("\x1b[{drawn}A"));
    }
    let shown = &objects[objects.len().saturating_sub(LINES_MAX)..];
    for object in shown {
        let part = if object.total > 0 {
            object.done as f64 / object.total as f64
        } else {
            0.0
        };
        let full = if object.stage == "complete" || object.stage == "extracted" {
            1.0
        } else {
            part.clamp(0.0, 1.0)
        };
        let filled = (full * BAR_COLUMNS as f64) as usize;
        let seconds = object.began.elapsed().as_secs_f64();
        let rate = if object.stage == "downloading" && seconds > 0.2 {
            format!("  {}/s", size((object.done as f64 / seconds) as u64))
        } else {
            String::new()
        };
        text.push_str(&format!(
            "\x1b[2K{:<14} {:<12} [{}{}] {}{rate}\n",
            object.name,
            object.stage,
            "=".repeat(filled),
            " ".repeat(BAR_COLUMNS - filled),
            amounts(object),
        ));
    }
    io::stderr().lock().write_all(text.as_bytes())?;
    Ok(shown.len())
}
