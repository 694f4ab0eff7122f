//! Configuration files as users write them.

use super::*;

fn load(text: &str) -> Result<(Config, Vec<String>), ConfigError> {
    let mut config = Config::new(Identity::Hoist);
    let mut warnings = Vec::new();
    config.merge(
        Text {
            path: "config.toml",
            text,
        },
        &mut warnings,
    )?;
    config.check()?;
    Ok((config, warnings))
}

#[test]
fn no_file_gives_our_own_paths_and_a_link_containerds() {
    assert_eq!(
        Config::new(Identity::Hoist).address,
        Path::new("/run/hoist/hoist.sock")
    );
    let config = Config::new(Identity::of(Path::new("/usr/bin/containerd")));
    assert_eq!(
        config.ttrpc_address,
        Path::new("/run/containerd/containerd.sock.ttrpc")
    );
    assert_eq!(config.root, Path::new("/var/lib/containerd"));
}

#[test]
fn an_unknown_key_is_a_warning_with_its_line() {
    let (_, warnings) = load("version = 2\n\nrooot = \"/x\"\n[grpc]\n  adress = \"/y\"\n").unwrap();
    assert_eq!(
        warnings,
        [
            "config.toml:5: unknown key grpc.adress is ignored",
            "config.toml:3: unknown key rooot is ignored",
        ]
    );
}

#[test]
fn an_ill_typed_key_is_refused_with_its_line() {
    for (text, message) in [
        (
            "root = 5",
            "config.toml:1: root must be a string, found the number 5",
        ),
        (
            "\n[grpc]\nuid = \"root\"",
            "config.toml:3: grpc.uid must be a whole number from 0 to 4294967295, found the string \"root\"",
        ),
        (
            "grpc = 1",
            "config.toml:1: grpc must be a table, found the number 1",
        ),
        (
            "version = 5",
            "config.toml:1: version must be a whole number from 0 to 4, found the number 5",
        ),
        (
            "disabled_plugins = [1]",
            "config.toml:1: disabled_plugins must be a list of strings, found a value of type array",
        ),
    ] {
        assert_eq!(load(text).unwrap_err().to_string(), message);
    }
}

#[test]
fn broken_toml_is_refused_with_its_place() {
    let error = load("root = \n").unwrap_err().to_string();
    assert!(
        error.starts_with("parse configuration file config.toml: "),
        "{error}"
    );
    assert!(error.contains("line 1"), "{error}");
}

#[test]
fn dockers_managed_file_loads_without_a_word() {
    let text = r#"
version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri"]
oom_score = 0
root = "/var/lib/docker/containerd/daemon"
state = "/var/run/docker/containerd/daemon"
imports = []
[grpc]
  address = "/var/run/docker/containerd/containerd.sock"
  uid = 0
  gid = 0
  max_recv_message_size = 16777216
  max_send_message_size = 16777216
  tcp_address = ""
[ttrpc]
  address = ""
  uid = 0
  gid = 0
[debug]
  address = ""
  uid = 0
  gid = 0
  level = "debug"
[metrics]
  address = ""
  grpc_histogram = false
[cgroup]
  path = ""
"#;
    let (config, warnings) = load(text).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(config.log_level, "debug");
    assert_eq!(
        config.ttrpc_address,
        Path::new("/var/run/docker/containerd/containerd.sock.ttrpc")
    );
}

#[test]
fn root_and_state_must_be_absolute_and_differ() {
    assert!(load("root = \"x\"").is_err());
    assert!(load("root = \"/x\"\nstate = \"/x\"").is_err());
}

#[test]
fn what_dump_prints_loads_to_the_same_settings() {
    let mut config = Config::new(Identity::Containerd);
    config.overlay.mount_options = vec!["volatile".into()];
    config.gc.schedule_delay = Duration::from_millis(5);
    let (loaded, warnings) = load(&config.to_toml()).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(loaded, config);
}
