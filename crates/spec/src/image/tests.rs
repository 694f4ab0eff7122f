//! Round trips of whole documents.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::*;

fn round_trip<T: Serialize + DeserializeOwned>(document: &Value) {
    let value: T = serde_json::from_value(document.clone()).unwrap();
    assert_eq!(&serde_json::to_value(value).unwrap(), document);
}

#[test]
fn documents_survive() {
    let digest = format!("sha256:{}", "a".repeat(64));
    round_trip::<Index>(&json!({
        "schemaVersion": 2, "mediaType": media_type::INDEX,
        "manifests": [{"mediaType": media_type::MANIFEST, "digest": digest, "size": 1,
            "platform": {"architecture": "arm", "os": "linux", "os.version": "1", "os.features": ["x"], "variant": "v7"},
            "annotations": {"a": "b"}, "urls": ["u"], "data": "e30=", "artifactType": "t", "future": 1}],
        "annotations": {"a": "b"}
    }));
    round_trip::<Manifest>(&json!({
        "schemaVersion": 2, "artifactType": "x",
        "config": {"mediaType": media_type::CONFIG, "digest": digest, "size": 2},
        "layers": [{"mediaType": media_type::LAYER, "digest": digest, "size": 3}],
        "subject": {"mediaType": media_type::MANIFEST, "digest": digest, "size": 4}
    }));
    round_trip::<ImageLayout>(&json!({"imageLayoutVersion": "1.0.0"}));
    round_trip::<ImageConfiguration>(&json!({
        "created": "2020-01-01T00:00:00Z", "author": "a", "architecture": "amd64", "os": "linux",
        "config": {"User": "1:2", "ExposedPorts": {"80/tcp": {}}, "Env": ["A=b"], "Entrypoint": ["e"], "Cmd": ["c"],
            "Volumes": {"/v": {}}, "WorkingDir": "/w", "Labels": {"l": "m"}, "StopSignal": "SIGTERM", "ArgsEscaped": true,
            "Healthcheck": {"Test": ["NONE"], "Interval": 1, "Retries": 3}, "StopTimeout": 10, "Shell": ["s"], "OnBuild": ["o"],
            "Hostname": "kept"},
        "rootfs": {"type": "layers", "diff_ids": [digest]},
        "history": [{"created_by": "x", "empty_layer": true}],
        "docker_version": "20"
    }));
}

#[test]
fn docker_writes_null_for_empty() {
    let config = ImageConfiguration::from_slice(
        br#"{"architecture":"amd64","os":"linux","config":{"User":"","Cmd":null,"Entrypoint":null,"Volumes":null,"Labels":null,"OnBuild":null},"rootfs":{"type":"layers","diff_ids":null}}"#,
    )
    .unwrap();
    assert!(config.config.unwrap().cmd.is_empty());
}
