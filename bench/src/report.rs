//! The table: median, spread and ratio.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Row {
    /// Create, start, wait and delete of one container after the other.
    CyclesPerSecond,
    /// A process in a running container, from Exec to Delete.
    ExecMilliseconds,
    /// Proportional memory of shim and growth of the daemon.
    IdlePssKilobytes,
    /// Private dirty memory of the shim.
    ShimPrivateDirtyKilobytes,
    /// The daemon with nothing to do.
    IdleDaemonRssKilobytes,
    /// From exec to the first answer, on an empty root.
    BootMilliseconds,
}

impl Row {
    fn label(self) -> &'static str {
        match self {
            Self::CyclesPerSecond => "create+start+wait+delete per second",
            Self::ExecMilliseconds => "exec, ms",
            Self::IdlePssKilobytes => "PSS per idle container, kB",
            Self::ShimPrivateDirtyKilobytes => "private dirty of a shim, kB",
            Self::IdleDaemonRssKilobytes => "daemon idle RSS, kB",
            Self::BootMilliseconds => "serving on an empty root, ms",
        }
    }

    fn more_is_better(self) -> bool {
        self == Self::CyclesPerSecond
    }
}

/// The figures of one daemon.
#[derive(Debug, Default)]
pub(crate) struct Figures(BTreeMap<Row, Vec<f64>>);

impl Figures {
    /// Adds one measurement.
    pub(crate) fn add(&mut self, row: Row, value: f64) {
        self.0.entry(row).or_default().push(value);
    }

    fn median(&self, row: Row) -> Option<f64> {
        let mut values = self.0.get(&row)?.clone();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }

    fn spread(&self, row: Row) -> String {
        let values = self.0.get(&row).map(Vec::as_slice).unwrap_or_default();
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(0.0, f64::max);
        if values.len() < 2 {
            String::new()
        } else {
            format!(" ({least:.1}-{most:.1})")
        }
    }
}

/// A Markdown table; ratios compare the first column with each other one, above 1 meaning that the first is better.
pub(crate) fn table(columns: &[(String, Figures)]) -> String {
    let mut text = String::from("| figure |");
    for (name, _) in columns {
        let _infallible = write!(text, " {name} |");
    }
    for (name, _) in &columns[1..] {
        let _infallible = write!(text, " times better than {name} |");
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(columns.len() * 2 - 1));
    text.push('\n');
    let rows = [
        Row::CyclesPerSecond,
        Row::ExecMilliseconds,
        Row::IdlePssKilobytes,
        Row::ShimPrivateDirtyKilobytes,
        Row::IdleDaemonRssKilobytes,
        Row::BootMilliseconds,
    ];
    for row in rows {
        let _infallible = write!(text, "| {} |", row.label());
        for (_, figures) in columns {
            let cell = figures.median(row).map_or("-".to_owned(), |median| {
                format!("{median:.1}{}", figures.spread(row))
            });
            let _infallible = write!(text, " {cell} |");
        }
        for (_, other) in &columns[1..] {
            let ratio = columns[0]
                .1
                .median(row)
                .zip(other.median(row))
                .map(|(ours, theirs)| {
                    if row.more_is_better() {
                        ours / theirs
                    } else {
                        theirs / ours
                    }
                });
            let _infallible = write!(
                text,
                " {} |",
                ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.1}"))
            );
        }
        text.push('\n');
    }
    text
}
