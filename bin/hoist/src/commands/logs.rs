//! `hoist logs`.

use anyhow::Context as _;
use model::{Clock, SystemClock, Timestamp};

use crate::cli::LogsArgs;
use crate::context::Context;
use crate::log::{self, Show};

/// Shows what a container wrote.
pub(crate) async fn logs(context: &Context, args: &LogsArgs) -> anyhow::Result<()> {
    let container = context.container(&args.container).await?;
    let path = container.labels.get(log::LABEL).with_context(|| {
        format!(
            "{:?} runs in the foreground: what it writes goes to its own terminal and is not kept",
            container.id
        )
    })?;
    let since = args.since.as_deref().map(moment).transpose()?;
    let show = Show {
        tail: args.tail,
        since,
        timestamps: args.timestamps,
        json: context.json,
    };
    let mut reader = log::Reader::open(path.into(), show);
    reader.print().await?;
    if !args.follow {
        return Ok(());
    }
    loop {
        let running = log::running(context, &container.id).await?;
        reader.print().await?;
        if !running {
            return Ok(());
        }
        reader.changed().await;
    }
}

/// A time in RFC 3339, or an age such as `90s`, `10m`, `2h`, `1d`.
fn moment(text: &str) -> anyhow::Result<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let wrong = || {
        format!(
            "--since {text:?} must be a time such as 2024-05-01T12:00:00Z or an age such as 10m"
        )
    };
    let unit = text.chars().last().with_context(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => anyhow::bail!(wrong()),
    };
    let count: i64 = text[..text.len() - 1].parse().with_context(wrong)?;
    let age = count.checked_mul(seconds).with_context(wrong)?;
    let then = SystemClock
        .now()
        .as_second()
        .checked_sub(age)
        .with_context(wrong)?;
    Timestamp::from_second(then).with_context(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_ages_are_read() {
        assert_eq!(
            moment("2024-05-01T12:00:00Z").unwrap().as_second(),
            1_714_564_800
        );
        let age = SystemClock.now().as_second() - moment("10m").unwrap().as_second();
        assert!((600..602).contains(&age));
        for wrong in [
            "",
            "m",
            "10",
            "10y",
            "ten minutes",
            "99999999999999999999d",
            "9223372036854775807h",
        ] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
    }
}
