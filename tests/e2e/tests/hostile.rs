//! Bad input from registries, images, configurations and clients: a clear error, nothing left, nobody else disturbed.

mod client;
mod image;
mod layer;
mod registry;
mod store;

use ::registry::testing::{self, Layer};

use crate::harness::{Background, Daemon, Disk};

/// A daemon and a registry that misbehaves, with an image of one layer that is in order.
struct Scene {
    daemon: Daemon,
    registry: testing::Registry,
}

impl Scene {
    async fn new() -> Self {
        let registry = testing::Registry::start().await;
        let image = testing::Image {
            layers: vec![Layer::file("fine", b"fine\n")],
            ..testing::Image::default()
        };
        registry.push_image("fine", "1", &image);
        Self {
            daemon: Daemon::start(),
            registry,
        }
    }

    fn pull(&self, name: &str) -> Background {
        let mut command = self.daemon.hoist_command();
        command.args(["pull", "-q", "--plain-http", &self.registry.name(name)]);
        Background::spawn(&mut command)
    }

    /// A pull fails with a message; one beside it comes through, and afterwards nothing of the bad one is there.
    #[track_caller]
    fn refuses(&self, name: &str, parts: &[&str]) -> String {
        let mut bad = self.pull(name);
        let mut good = self.pull("fine:1");
        assert_eq!(good.status(), 0, "{}", good.output());
        assert_ne!(bad.status(), 0, "{name} was pulled");
        let message = bad.output();
        assert!(message.starts_with("hoist: "), "{name}: {message}");
        assert!(
            parts.iter().any(|part| message.contains(part)),
            "{name}: {message}"
        );
        let fine = self.registry.name("fine:1");
        assert_eq!(
            self.daemon.hoist("images -q").ok(),
            format!("{fine}\n"),
            "{name}"
        );
        assert_eq!(self.daemon.ctr("leases ls -q").ok(), "", "{name}");
        self.daemon.hoist(&format!("rmi {fine}")).ok();
        self.gone(name);
        message
    }

    /// After a round of the collector no blob and no snapshot is there, and what an ingest holds can go on or go.
    #[track_caller]
    fn gone(&self, name: &str) {
        self.daemon.sweep();
        let active = self.daemon.ctr("content active").ok();
        let ingests = self.daemon.disk().ingests;
        assert_eq!(
            active.lines().count() - 1,
            ingests.len(),
            "{name}: {active}"
        );
        self.daemon.holds_only(&Disk {
            ingests,
            ..Disk::default()
        });
    }
}
