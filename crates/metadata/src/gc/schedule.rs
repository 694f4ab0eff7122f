//! When to collect: containerd's scheduler, with its settings.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::Gc;

/// The interval before the first cycle told how long one takes.
const INTERVAL_FIRST: Duration = Duration::from_secs(1);
/// A cycle counts as at least this long, so that quick ones do not follow each other at once.
const CYCLE_MIN: Duration = Duration::from_millis(5);
/// The highest share of time that cycles may take.
const PAUSE_THRESHOLD_MAX: f64 = 0.5;

/// The settings of `io.containerd.gc.v1.scheduler`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The share of time that cycles may take, at most 0.5; 0 leaves the interval at one second.
    pub pause_threshold: f64,
    /// So many deletions bring a cycle about; 0: one does, when none is planned.
    pub deletion_threshold: u64,
    /// A planned cycle runs when there were so many mutations; 0: only after deletions.
    pub mutation_threshold: u64,
    /// From the moment when a cycle is called for to its beginning.
    pub schedule_delay: Duration,
    /// From the start to the first cycle; 0: none is planned.
    pub startup_delay: Duration,
}

impl Gc {
    /// Collects when the settings call for it, for ever. Dropping the future stops it.
    pub async fn schedule(self, settings: Schedule) {
        let share = settings.pause_threshold.clamp(0.0, PAUSE_THRESHOLD_MAX);
        let mut next =
            (!settings.startup_delay.is_zero()).then(|| Instant::now() + settings.startup_delay);
        let mut ran = false;
        let mut interval = INTERVAL_FIRST;
        let (mut total, mut cycles) = (Duration::ZERO, 0u32);
        loop {
            if !self.wait(next).await {
                if self.is_called(&settings, next.is_none()) {
                    let at = Instant::now() + settings.schedule_delay;
                    next = Some(next.map_or(at, |planned| planned.min(at)));
                }
                continue;
            }
            if ran && !self.is_worthwhile(&settings) {
                next = Some(Instant::now() + interval);
                continue;
            }
            // A failure was logged; the next interval tries again.
            if let Ok(stats) = self.run().await {
                total += stats.elapsed;
                cycles += 1;
                if share > 0.0 {
                    let average = (total / cycles).max(CYCLE_MIN);
                    interval = average.mul_f64(1.0 / share - 1.0);
                }
            }
            ran = true;
            next = Some(Instant::now() + interval);
        }
    }

    /// Waits for the planned moment (true) or for a mutation (false).
    async fn wait(&self, next: Option<Instant>) -> bool {
        let changed = self.db.inner.pulse.changed.notified();
        match next {
            None => {
                changed.await;
                false
            }
            Some(next) => tokio::time::timeout_at(next, changed).await.is_err(),
        }
    }

    fn counts(&self) -> (u64, u64) {
        let pulse = &self.db.inner.pulse;
        (
            pulse.dirty.load(Ordering::Acquire),
            pulse.mutations.load(Ordering::Acquire),
        )
    }

    /// Whether what happened calls for a cycle now.
    fn is_called(&self, settings: &Schedule, unplanned: bool) -> bool {
        let (deletions, mutations) = self.counts();
        let deleted = settings.deletion_threshold > 0 && deletions >= settings.deletion_threshold;
        let any = settings.deletion_threshold == 0 && deletions > 0;
        let mutated = settings.mutation_threshold > 0 && mutations >= settings.mutation_threshold;
        deleted || (unplanned && (any || mutated))
    }

    /// Whether a planned cycle has anything to do.
    fn is_worthwhile(&self, settings: &Schedule) -> bool {
        let (deletions, mutations) = self.counts();
        let mutated = settings.mutation_threshold > 0 && mutations >= settings.mutation_threshold;
        deletions > 0 || mutated
    }
}
