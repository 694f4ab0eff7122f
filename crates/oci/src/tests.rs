//! Whole specifications.

use serde_json::{Value, json};
use spec::image::ContainerConfig;
use spec::runtime::{Device, Mount, Spec};

use crate::{Chain, HostDevice, Options, Privileges, SeccompChoice, merge_environment, seccomp};

fn texts(items: &[&str]) -> Vec<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

fn image() -> ContainerConfig {
    ContainerConfig {
        entrypoint: texts(&["/entry"]),
        cmd: texts(&["default"]),
        env: texts(&["PATH=/bin", "A=1"]),
        working_dir: Some("/srv".into()),
        ..ContainerConfig::default()
    }
}

fn value(spec: &Spec) -> Value {
    serde_json::from_slice(&spec.to_vec()).unwrap()
}

#[test]
fn the_default_specification_is_containerds() {
    let spec = Chain::new("default", "c1").image(&image(), &[]).finish();
    let golden: Value = serde_json::from_str(include_str!("tests/default.json")).unwrap();
    assert_eq!(value(&spec.unwrap()), golden);
}

#[test]
fn options_change_what_they_name() {
    let options = Options {
        env: texts(&["A=2", "PATH", "B=3"]),
        terminal: true,
        hostname: Some("box".into()),
        mounts: vec![Mount {
            destination: "/run".into(),
            kind: Some("bind".into()),
            source: Some("/srv/run".into()),
            options: texts(&["rbind"]),
            ..Mount::default()
        }],
        capabilities_add: texts(&["net_admin"]),
        capabilities_drop: texts(&["CAP_CHOWN"]),
        read_only: true,
        memory_bytes: Some(1 << 20),
        cpus: Some(1.5),
        pids_limit: Some(7),
        host_namespaces: texts(&["network"]),
        devices: vec![HostDevice {
            node: Device {
                path: "/dev/fuse".into(),
                kind: "c".into(),
                major: 10,
                minor: 229,
                ..Device::default()
            },
            access: "rw".into(),
        }],
        shm_bytes: Some(1024),
        ..Options::default()
    };
    let spec = Chain::new("n", "c")
        .image(&image(), &texts(&["own"]))
        .options(&options)
        .unwrap()
        .finish()
        .unwrap();
    let spec = value(&spec);
    assert_eq!(spec["process"]["args"], json!(["/entry", "own"]));
    assert_eq!(spec["process"]["env"], json!(["TERM=xterm", "A=2", "B=3"]));
    assert_eq!(spec["process"]["cwd"], "/srv");
    assert_eq!(spec["root"]["readonly"], true);
    let sets = spec["process"]["capabilities"].to_string();
    assert!(sets.contains("CAP_NET_ADMIN") && !sets.contains("CAP_CHOWN"));
    let linux = &spec["linux"];
    assert_eq!(linux["resources"]["cpu"]["quota"], 150_000);
    assert_eq!(linux["resources"]["memory"]["limit"], 1 << 20);
    assert_eq!(linux["resources"]["pids"]["limit"], 7);
    assert_eq!(linux["devices"][0]["minor"], 229);
    assert!(!linux["namespaces"].to_string().contains("network"));
    let run: Vec<_> = spec["mounts"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|mount| mount["destination"] == "/run")
        .collect();
    assert_eq!((run.len(), &run[0]["source"]), (1, &json!("/srv/run")));
    assert!(spec["mounts"].to_string().contains("size=1024"));
}

#[test]
fn privileged_lifts_every_confinement() {
    let options = Options {
        privileges: Privileges::All {
            capabilities: texts(&["CAP_SYS_ADMIN"]),
            all_devices: true,
        },
        seccomp: SeccompChoice::Unconfined,
        ..Options::default()
    };
    let spec = Chain::new("n", "c")
        .image(&image(), &[])
        .options(&options)
        .unwrap()
        .finish()
        .unwrap();
    let linux = spec.linux.unwrap();
    assert!(linux.masked_paths.is_empty() && linux.readonly_paths.is_empty());
    assert_eq!(linux.resources.unwrap().devices.len(), 1);
    assert_eq!(
        spec.process.unwrap().capabilities.unwrap().bounding,
        ["CAP_SYS_ADMIN"]
    );
}

#[test]
fn contradictions_are_refused() {
    let chain = || Chain::new("n", "c").image(&image(), &[]);
    let refused = |options: Options| {
        chain()
            .options(&options)
            .and_then(Chain::finish)
            .unwrap_err()
            .to_string()
    };
    for (options, needle) in [
        (
            Options {
                args: Some(Vec::new()),
                ..Options::default()
            },
            "no command",
        ),
        (
            Options {
                cwd: Some("x".into()),
                ..Options::default()
            },
            "absolute",
        ),
        (
            Options {
                hostname: Some("h".into()),
                host_namespaces: texts(&["uts"]),
                ..Options::default()
            },
            "UTS",
        ),
        (
            Options {
                cpus: Some(f64::NAN),
                ..Options::default()
            },
            "cpus",
        ),
        (
            Options {
                capabilities_add: texts(&["CAP_NOPE"]),
                ..Options::default()
            },
            "no such capability",
        ),
    ] {
        let message = refused(options);
        assert!(message.contains(needle), "{message}");
    }
}

#[test]
fn the_filter_follows_architecture_and_capabilities() {
    let plain = seccomp::default_profile("amd64", &[]);
    let names = |profile: &spec::runtime::Seccomp| {
        profile
            .syscalls
            .iter()
            .flat_map(|rule| rule.names.clone())
            .collect::<Vec<_>>()
    };
    assert!(!names(&plain).contains(&"mount".to_owned()));
    assert!(names(&plain).contains(&"arch_prctl".to_owned()));
    assert_eq!(plain.architectures.len(), 3);
    let clone3 = plain
        .syscalls
        .iter()
        .find(|rule| rule.names == ["clone3"])
        .unwrap();
    assert_eq!(
        (clone3.action.as_str(), clone3.errno_ret),
        ("SCMP_ACT_ERRNO", Some(38))
    );
    let admin = seccomp::default_profile("arm64", &texts(&["CAP_SYS_ADMIN"]));
    assert!(names(&admin).contains(&"mount".to_owned()));
    assert!(!admin.syscalls.iter().any(|rule| rule.names == ["clone3"]));
    for denied in [
        "keyctl",
        "add_key",
        "io_uring_setup",
        "userfaultfd",
        "kexec_load",
    ] {
        assert!(!names(&admin).contains(&denied.to_owned()), "{denied}");
    }
}

#[test]
fn a_bare_name_removes_a_variable() {
    assert_eq!(
        merge_environment(&texts(&["A=1", "B=2"]), &texts(&["B", "A=", "C=3", "D"])),
        ["A=", "C=3"]
    );
}
