//! kill -9 of the daemon at random moments: containers go on, and nothing is lost, wrong or left over.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::harness::{
    BUSYBOX, Background, Daemon, Disk, Random, Registry, Security, eventually, random, root,
};

/// How much is done.
struct Plan {
    kills: usize,
    containers: usize,
    pulls: usize,
    /// Layers of each image.
    layers: usize,
    /// Random bytes of each layer.
    layer_bytes: usize,
}

/// Prints a line every few milliseconds until its file appears in `/control`, then ends with a status of its own.
const SCRIPT: &str = "n=0; while [ ! -e /control/$NAME ]; do echo line $n; n=$((n+1)); sleep 0.05; done; echo end $n; exit $STATUS";

struct World {
    daemon: Daemon,
    control: PathBuf,
    images: Vec<String>,
    random: Random,
    /// Those that were told to end.
    ended: BTreeSet<usize>,
}

fn name(number: usize) -> String {
    format!("c{number}")
}

fn status(number: usize) -> usize {
    number + 3
}

impl World {
    fn new(plan: &Plan, registry: &Registry, seed: u64) -> Self {
        let daemon = Daemon::with_busybox();
        let control = daemon.path("control");
        fs::create_dir(&control).unwrap();
        for number in 0..plan.containers {
            let run = format!(
                "run -d --name {} -e NAME={0} -e STATUS={} -v {}:/control:ro {BUSYBOX} /bin/sh -c",
                name(number),
                status(number),
                control.display()
            );
            daemon.hoist_with(&run, SCRIPT).ok();
        }
        let images = (0..plan.pulls)
            .map(|number| {
                let image = random(seed + number as u64 + 1, plan.layers, plan.layer_bytes);
                registry.push(&image, &format!("app/random{number}:1"), &[])
            })
            .collect();
        Self {
            daemon,
            control,
            images,
            random: Random::new(seed),
            ended: BTreeSet::new(),
        }
    }

    /// Begins a pull; the first image the way of Go clients, the others through `Transfer`.
    fn pull(&self, image: usize) -> Background {
        let name = &self.images[image];
        let mut command = if image == 0 {
            self.daemon.ctr_command()
        } else {
            self.daemon.hoist_command()
        };
        if image == 0 {
            command.arg("image");
        }
        Background::spawn(command.args(["pull", "--plain-http", name]))
    }

    /// One kill while pulls are under way; some containers end while nobody looks.
    fn round(&mut self, round: usize, plan: &Plan) {
        let pulls: Vec<Background> = (0..plan.pulls).map(|image| self.pull(image)).collect();
        let wait = Duration::from_millis(self.random.below(400));
        std::thread::sleep(wait);
        println!("round {round}: killed after {wait:?}");
        self.daemon.kill();
        drop(pulls);
        // All but one in four end over the rounds, always one at least.
        let due = plan.containers * 3 / 4 * (round + 1) / plan.kills;
        while self.ended.len() < due.max(1) {
            let number = self.random.below(plan.containers as u64) as usize;
            self.ended.insert(number);
            fs::write(self.control.join(name(number)), "").unwrap();
        }
        std::thread::sleep(Duration::from_millis(self.random.below(150)));
        self.daemon.spawn();
        self.check(plan);
        if round + 1 < plan.kills {
            for image in &self.images {
                // So that the next round has something to pull.
                self.daemon.hoist(&format!("rmi {image}"));
            }
        }
    }

    /// Every container is as it was told to be.
    fn check(&self, plan: &Plan) {
        for number in 0..plan.containers {
            let name = name(number);
            if self.ended.contains(&number) {
                eventually(
                    &format!("{name} has ended"),
                    Duration::from_secs(10),
                    || self.task(&name)["status"] == "exited",
                );
                assert_eq!(self.task(&name)["exit_status"], status(number), "{name}");
                self.logs_are_whole(&name);
            } else {
                assert_eq!(self.task(&name)["status"], "running", "{name}");
                let exec = self.daemon.hoist(&format!("exec {name} /bin/echo alive"));
                assert_eq!(exec.ok(), "alive\n", "{name}");
            }
        }
    }

    fn task(&self, name: &str) -> Value {
        let listed = self.daemon.hoist("ps -a --json").ok();
        let lines = listed
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        lines
            .into_iter()
            .find(|line: &Value| line["name"] == name)
            .unwrap_or_else(|| panic!("{name} is not listed: {listed}"))
    }

    /// Not a line is missing between the first and the last.
    fn logs_are_whole(&self, name: &str) {
        let logs = self.daemon.hoist(&format!("logs {name}")).ok();
        let lines: Vec<&str> = logs.lines().collect();
        let count = lines.len() - 1;
        for (number, line) in lines[..count].iter().enumerate() {
            assert_eq!(*line, format!("line {number}"), "{name}");
        }
        assert_eq!(lines[count], format!("end {count}"), "{name}");
    }

    /// Ends everything but the pulled images, and compares what is on disk with what is listed.
    fn settle(&mut self, plan: &Plan) {
        for number in 0..plan.containers {
            fs::write(self.control.join(name(number)), "").unwrap();
            self.ended.insert(number);
        }
        self.check(plan);
        for number in 0..plan.containers {
            self.daemon.hoist(&format!("rm {}", name(number))).ok();
        }
        for image in 0..plan.pulls {
            let mut pull = self.pull(image);
            assert_eq!(pull.status(), 0, "{}", pull.output());
        }
        // Clients that were cut off left leases, which end by themselves after a day.
        for lease in self.daemon.ctr("leases ls -q").ok().lines() {
            println!("a lease was left: {lease}");
            self.daemon.ctr(&format!("leases delete {lease}")).ok();
        }
        self.daemon.sweep();
        let listed = |command: &str| -> BTreeSet<String> {
            let text = self.daemon.ctr(command).ok();
            text.lines().map(str::to_owned).collect()
        };
        let images = plan.pulls + 1;
        let blobs = listed("content ls -q");
        // Of each image manifest, configuration and layers.
        assert_eq!(blobs.len(), plan.pulls * (2 + plan.layers) + 4, "{blobs:?}");
        assert_eq!(listed("image ls -q").len(), images);
        let snapshots = listed("snapshot ls").len() - 1;
        assert_eq!(snapshots, plan.pulls * plan.layers + 2);
        let lives = |disk: &Disk| {
            disk.blobs == blobs && disk.snapshots.len() == snapshots && disk.ingests.is_empty()
        };
        let end = Instant::now() + Duration::from_secs(5);
        while !lives(&self.daemon.disk()) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        let disk = self.daemon.disk();
        let more: Vec<_> = disk.blobs.difference(&blobs).collect();
        assert!(
            lives(&disk),
            "besides live objects there are blobs {more:?}, {} snapshots of {snapshots}, ingests {:?}",
            disk.snapshots.len(),
            disk.ingests
        );
        for image in listed("image ls -q") {
            self.daemon.ctr(&format!("image rm {image}")).ok();
        }
        self.daemon.sweep();
        self.daemon.holds_only(&Disk::default());
    }
}

fn survives(plan: &Plan) {
    let seed = SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(1, |age| age.as_secs());
    println!("seed {seed}");
    let began = Instant::now();
    let registry = Registry::start(Security::Open);
    let mut world = World::new(plan, &registry, seed);
    for round in 0..plan.kills {
        world.round(round, plan);
    }
    world.settle(plan);
    world.daemon.finish();
    println!("{} kills in {:?}", plan.kills, began.elapsed());
}

#[test]
fn kills_of_the_daemon_lose_nothing() {
    if !root("kills_of_the_daemon_lose_nothing") {
        return;
    }
    survives(&Plan {
        kills: 8,
        containers: 6,
        // One as Go clients pull, one through Transfer.
        pulls: 2,
        layers: 4,
        layer_bytes: 6 << 20,
    });
}

#[test]
#[ignore = "takes minutes: 50 kills with 20 containers and 3 pulls; run it with --run-ignored or --ignored"]
fn many_kills_of_the_daemon_lose_nothing() {
    if !root("many_kills_of_the_daemon_lose_nothing") {
        return;
    }
    survives(&Plan {
        kills: 50,
        containers: 20,
        pulls: 3,
        layers: 4,
        layer_bytes: 6 << 20,
    });
}
