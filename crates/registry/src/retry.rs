//! When to send a request again.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::Config;

/// Counts the tries of one request and waits between them.
#[derive(Debug)]
pub(crate) struct Retry {
    left: u32,
    next: Duration,
    max: Duration,
}

impl Retry {
    pub(crate) fn new(config: &Config) -> Self {
        Self::times(config, config.retries)
    }

    /// Gives up at the first failure: for a mirror that others stand behind.
    pub(crate) fn never(config: &Config) -> Self {
        Self::times(config, 0)
    }

    pub(crate) fn times(config: &Config, left: u32) -> Self {
        Self {
            left,
            next: config.backoff,
            max: config.backoff_max,
        }
    }

    /// Waits as long as the server asks, or else longer each time. `false`: no more tries.
    pub(crate) async fn wait(&mut self, asked: Option<Duration>) -> bool {
        if self.left == 0 || asked.is_some_and(|asked| asked > self.max) {
            return false;
        }
        self.left -= 1;
        let wait = asked.unwrap_or_else(|| spread(self.next));
        self.next = (self.next * 2).min(self.max);
        tokio::time::sleep(wait).await;
        true
    }
}

/// Between half and all of `wait`, so that many clients don't come back at one moment.
fn spread(wait: Duration) -> Duration {
    let random = RandomState::new().hash_one(0_u8) % 1000;
    wait / 2 + wait / 2 * u32::try_from(random).unwrap_or(0) / 1000
}

/// `Retry-After` in seconds (RFC 9110, 10.2.3). The form with a date is rare and left to the usual waits.
pub(crate) fn retry_after(headers: &reqwest::header::HeaderMap) -> Option<Duration> {
    let text = headers.get(reqwest::header::RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}
