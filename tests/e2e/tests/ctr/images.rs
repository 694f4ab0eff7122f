//! `ctr image`: pulls of all kinds from real registries, and what is done to images.

use std::time::Duration;

use registry::testing::{self, Auth, Entry, Layer};

use crate::harness::{
    Background, Daemon, Disk, Packing, Registry, Security, architecture, busybox, busybox_packed,
    eventually, root, rows,
};

/// The row of an image in `ctr image ls`.
#[track_caller]
fn listed(daemon: &Daemon, name: &str) -> Vec<String> {
    let table = daemon.ctr("image ls").ok();
    let rows = rows(&table);
    let found = rows.iter().find(|row| row[0] == name);
    let found = found.unwrap_or_else(|| panic!("{name} is not listed:\n{table}"));
    found.iter().map(|cell| (*cell).to_owned()).collect()
}

/// Runs a container from the image and sees both of its layers.
#[track_caller]
fn runs(daemon: &Daemon, name: &str) {
    let script = "cat /layer2 /etc/architecture; ls -l /bin/sh | wc -l";
    let output = daemon.ctr_with(&format!("run --rm {name} once /bin/sh -c"), script);
    assert_eq!(
        output.ok(),
        format!("second layer\n{}1\n", architecture()),
        "{name}"
    );
}

#[test]
fn ctr_pulls_what_registries_hold() {
    if !root("ctr_pulls_what_registries_hold") {
        return;
    }
    let daemon = Daemon::start();
    let registry = Registry::start(Security::Open);
    let oci = "application/vnd.oci.image.manifest.v1+json";
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    let gzip = busybox(&[architecture()]);
    let plain = busybox_packed(&[architecture()], Packing::Plain);
    let zstd = ["--dest-compress-format", "zstd"];
    let kinds = [
        (registry.push(&gzip, "app/oci:1", &[]), oci, "tar+gzip"),
        (
            registry.push(&gzip, "app/docker:1", &["--format", "v2s2"]),
            docker,
            "tar.gzip",
        ),
        (registry.push(&plain, "app/zstd:1", &zstd), oci, "tar+zstd"),
    ];
    for (name, media_type, layer) in &kinds {
        daemon.ctr(&format!("image pull --plain-http {name}")).ok();
        let row = listed(&daemon, name);
        assert_eq!(row[1], *media_type, "{name}");
        let platform = format!("linux/{}", architecture());
        assert!(row.contains(&platform), "{row:?}");
        let manifest = daemon.ctr(&format!("content get {}", row[2])).ok();
        assert!(manifest.contains(layer), "{name}: {manifest}");
        runs(&daemon, name);
    }
    let missing = registry.name("app/oci:2");
    let message = daemon
        .ctr(&format!("image pull --plain-http {missing}"))
        .fails();
    assert!(message.contains("not found"), "{message}");
    let names = daemon.ctr("image ls -q").ok();
    assert_eq!(names.lines().count(), 3, "{names}");
    daemon.finish();
}

#[test]
fn ctr_pulls_one_platform_of_several() {
    if !root("ctr_pulls_one_platform_of_several") {
        return;
    }
    let daemon = Daemon::start();
    let registry = Registry::start(Security::Open);
    let name = registry.push(&busybox(&["amd64", "arm64", "s390x"]), "app/many:1", &[]);
    daemon
        .ctr(&format!(
            "image pull --plain-http --platform linux/arm64 {name}"
        ))
        .ok();
    let row = listed(&daemon, &name);
    assert_eq!(row[1], "application/vnd.oci.image.index.v1+json");
    assert!(row.iter().any(|cell| cell.contains("linux/arm64")));
    // The index, one manifest, its configuration and its two layers.
    let blobs = daemon.ctr("content ls -q").ok();
    assert_eq!(blobs.lines().count(), 5, "{blobs}");
    assert_eq!(daemon.disk().blobs.len(), 5);
    assert_eq!(daemon.disk().snapshots.len(), 2);
    let missing = daemon
        .ctr(&format!("run --rm --platform linux/s390x {name} x /bin/sh"))
        .fails();
    assert!(
        missing.contains("not found") || missing.contains("no match"),
        "{missing}"
    );
    daemon.ctr(&format!("image pull --plain-http {name}")).ok();
    runs(&daemon, &name);
    daemon.finish();
}

#[test]
fn ctr_pulls_with_user_and_password() {
    if !root("ctr_pulls_with_user_and_password") {
        return;
    }
    let daemon = Daemon::start();
    let registry = Registry::start(Security::Basic);
    let name = registry.push(&busybox(&[architecture()]), "app/guarded:1", &[]);
    for wrong in ["", "--user tester:wrong"] {
        let pull = format!("image pull --plain-http {wrong} {name}");
        let message = daemon.ctr(&pull).fails();
        assert!(
            message.contains("401") || message.contains("authorization failed"),
            "{message}"
        );
    }
    assert_eq!(daemon.ctr("image ls -q").ok(), "");
    let pull = format!("image pull --plain-http --user tester:secret {name}");
    daemon.ctr(&pull).ok();
    runs(&daemon, &name);
    daemon.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn ctr_pulls_with_a_token() {
    if !root("ctr_pulls_with_a_token") {
        return;
    }
    let daemon = Daemon::start();
    let registry = testing::Registry::start().await;
    let image = testing::Image {
        layers: vec![
            Layer::gzip(&[Entry::Folder("etc/".into(), 0o755)]),
            Layer::file("etc/greeting", b"hello\n"),
        ],
        ..testing::Image::default()
    };
    let pushed = registry.push_image("app", "1", &image);
    registry.auth(Auth::Token {
        user: Some(("tester".into(), "secret".into())),
        post: true,
        expires_in: Some(60),
        realm: None,
    });
    let name = registry.name("app:1");
    let wrong = format!("image pull --plain-http --user tester:wrong {name}");
    daemon.ctr(&wrong).fails();
    assert_eq!(daemon.ctr("image ls -q").ok(), "");
    let right = format!("image pull --plain-http --user tester:secret {name}");
    daemon.ctr(&right).ok();
    assert!(registry.count("POST", "/token") + registry.count("GET", "/token") > 0);
    assert_eq!(listed(&daemon, &name)[2], pushed.manifest.digest.as_str());
    assert_eq!(daemon.disk().snapshots.len(), 2);
    daemon.finish();
}

#[test]
fn ctr_pulls_over_tls() {
    if !root("ctr_pulls_over_tls") {
        return;
    }
    let daemon = Daemon::start();
    let registry = Registry::start(Security::Tls);
    let name = registry.push(&busybox(&[architecture()]), "app/tls:1", &[]);
    let authority = registry.authority();
    daemon.ctr(&format!("image pull {name}")).fails();
    assert_eq!(daemon.ctr("image ls -q").ok(), "");
    daemon
        .ctr(&format!("image pull --tlscacert {authority} {name}"))
        .ok();
    runs(&daemon, &name);
    daemon.ctr(&format!("image rm --sync {name}")).ok();
    daemon.holds_only(&Disk::default());
    daemon.ctr(&format!("image pull -k {name}")).ok();
    runs(&daemon, &name);
    daemon.finish();
}

#[test]
fn ctr_checks_tags_and_removes_images() {
    if !root("ctr_checks_tags_and_removes_images") {
        return;
    }
    let daemon = Daemon::with_busybox();
    let name = crate::harness::BUSYBOX;
    let other = "hoist.test/other:2";
    assert_eq!(daemon.ctr("image ls -q").ok(), format!("{name}\n"));
    let checked = daemon.ctr("image check").ok();
    let row = rows(&checked)[0].join(" ");
    assert!(row.starts_with(name), "{checked}");
    assert!(row.contains("complete (3/3)"), "{checked}");
    assert!(row.ends_with("true"), "{checked}");
    assert_eq!(daemon.ctr("image check -q").ok(), format!("{name}\n"));

    daemon.ctr(&format!("image tag {name} {other}")).ok();
    let again = daemon.ctr(&format!("image tag {name} {other}")).fails();
    assert!(again.contains("already exists"), "{again}");
    daemon
        .ctr(&format!("image tag --force {name} {other}"))
        .ok();
    daemon.ctr(&format!("image label {other} team=blue")).ok();
    let filtered = daemon.ctr("image ls -q labels.team==blue").ok();
    assert_eq!(filtered, format!("{other}\n"));

    // The other name keeps everything.
    daemon.sweep();
    let full = daemon.disk();
    assert_eq!((full.blobs.len(), full.snapshots.len()), (4, 2));
    daemon.ctr(&format!("image rm --sync {name}")).ok();
    assert_eq!(daemon.disk(), full);
    runs(&daemon, other);
    daemon.ctr(&format!("image rm --sync {other}")).ok();
    assert_eq!(daemon.ctr("image ls -q").ok(), "");
    assert_eq!(daemon.ctr("content ls -q").ok(), "");
    daemon.holds_only(&Disk::default());
    let message = daemon.ctr(&format!("image rm {other}")).stderr;
    assert!(message.contains("not found"), "{message}");
    daemon.finish();
}

#[test]
fn ctr_pulls_beside_each_other() {
    if !root("ctr_pulls_beside_each_other") {
        return;
    }
    let daemon = Daemon::start();
    let registry = Registry::start(Security::Open);
    let name = registry.push(&busybox(&[architecture()]), "app/shared:1", &[]);
    let pull = || {
        let mut command = daemon.ctr_command();
        Background::spawn(command.args(["image", "pull", "--plain-http", &name]))
    };
    let mut pulls = [pull(), pull(), pull()];
    for pull in &mut pulls {
        assert_eq!(pull.status(), 0, "{}", pull.output());
    }
    runs(&daemon, &name);
    // Whoever unpacked a layer second left it to the collector.
    daemon.sweep();
    eventually("one copy is left", Duration::from_secs(5), || {
        let disk = daemon.disk();
        (disk.blobs.len(), disk.snapshots.len()) == (4, 2)
    });
    drop(pulls);
    daemon.finish();
}
