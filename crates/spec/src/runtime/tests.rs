//! Round trips of whole documents.

use serde_json::{Value, json};

use super::*;

fn round_trip(document: &Value) -> Value {
    let spec = Spec::from_slice(document.to_string().as_bytes()).unwrap();
    serde_json::from_slice(&spec.to_vec()).unwrap()
}

#[test]
fn a_full_document_survives() {
    let document = json!({
        "ociVersion": "1.2.1",
        "process": {
            "terminal": true,
            "consoleSize": {"height": 24, "width": 80},
            "user": {"uid": 1, "gid": 2, "umask": 18, "additionalGids": [5, 6]},
            "args": ["sh"], "env": ["A=b"], "cwd": "/",
            "capabilities": {"bounding": ["CAP_CHOWN"], "ambient": ["CAP_KILL"]},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": u64::MAX, "soft": 0}],
            "noNewPrivileges": true, "apparmorProfile": "p", "oomScoreAdj": -999,
            "scheduler": {"policy": "SCHED_DEADLINE", "flags": ["SCHED_FLAG_RECLAIM"], "runtime": 1, "deadline": 2, "period": 3},
            "selinuxLabel": "l",
            "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4},
            "execCPUAffinity": {"initial": "0", "final": "1-3"},
            "futureProcess": [1]
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "h", "domainname": "d",
        "mounts": [{"destination": "/a", "type": "bind", "source": "/b", "options": ["rbind"],
            "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}],
            "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}]}],
        "hooks": {"createRuntime": [{"path": "/h", "args": ["h"], "env": ["X="], "timeout": 3}]},
        "annotations": {"k": "v"},
        "linux": {
            "uidMappings": [{"containerID": 0, "hostID": 1, "size": 65536}],
            "sysctl": {"net.ipv4.ip_forward": "1"},
            "resources": {
                "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "r"}],
                "memory": {"limit": -1, "swap": 5, "kernelTCP": 1, "swappiness": 0, "disableOOMKiller": false, "checkBeforeUpdate": true},
                "cpu": {"shares": 2, "quota": -1, "burst": 1, "period": 100_000, "realtimeRuntime": 1, "realtimePeriod": 2, "cpus": "0", "mems": "0", "idle": 1},
                "pids": {"limit": 0},
                "blockIO": {"weight": 10, "weightDevice": [{"major": 8, "minor": 0, "weight": 500}],
                    "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}],
                    "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 2}]},
                "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
                "network": {"classID": 7, "priorities": [{"name": "eth0", "priority": 1}]},
                "rdma": {"mlx5_1": {"hcaHandles": 3}},
                "unified": {"memory.high": "1"},
                "futureResources": {}
            },
            "cgroupsPath": "/a/b",
            "namespaces": [{"type": "pid"}, {"type": "network", "path": "/p"}],
            "devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 2, "fileMode": 438, "uid": 0, "gid": 0}],
            "netDevices": {"eth0": {"name": "c0"}},
            "seccomp": {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "architectures": ["SCMP_ARCH_X86_64"],
                "flags": ["SECCOMP_FILTER_FLAG_LOG"], "listenerPath": "/s", "listenerMetadata": "m",
                "syscalls": [{"names": ["clone"], "action": "SCMP_ACT_ALLOW", "errnoRet": 38,
                    "args": [{"index": 0, "value": u64::MAX, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}]}]},
            "rootfsPropagation": "rslave",
            "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"], "mountLabel": "ml",
            "intelRdt": {"closID": "c", "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=20", "enableCMT": true},
            "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]},
            "personality": {"domain": "LINUX32"},
            "timeOffsets": {"monotonic": {"secs": -1, "nanosecs": 5}},
            "futureLinux": 1
        },
        "windows": {"layerFolders": ["c:"]},
        "vm": {"kernel": {"path": "/k"}}
    });
    assert_eq!(round_trip(&document), document);
}

#[test]
fn null_and_missing_read_alike() {
    let spec = Spec::from_slice(
        br#"{"ociVersion":"1.0.0","mounts":null,"hooks":null,"process":{"args":null,"user":{"uid":0,"gid":0},"cwd":"/"},"linux":{"seccomp":{"defaultAction":"a","syscalls":[{"names":null,"action":"b"}]}}}"#,
    )
    .unwrap();
    assert!(spec.mounts.is_empty() && spec.hooks.is_none());
    assert_eq!(
        String::from_utf8(spec.to_vec()).unwrap(),
        r#"{"ociVersion":"1.0.0","process":{"user":{"uid":0,"gid":0},"cwd":"/"},"linux":{"seccomp":{"defaultAction":"a","syscalls":[{"action":"b"}]}}}"#
    );
}

#[test]
fn ids_that_do_not_fit_are_refused() {
    for uid in ["4294967296", "-1", "1.0", "\"0\""] {
        let text = format!(
            r#"{{"ociVersion":"1","process":{{"user":{{"uid":{uid},"gid":0}},"cwd":"/"}}}}"#
        );
        assert!(Spec::from_slice(text.as_bytes()).is_err(), "{uid}");
    }
}

#[test]
fn depth_and_length_are_bounded() {
    let deep = format!(r#"{{"x":{}1{}}}"#, "[".repeat(1000), "]".repeat(1000));
    assert!(Spec::from_slice(deep.as_bytes()).is_err());
    let long = vec![b' '; crate::RUNTIME_JSON_BYTES_MAX + 1];
    assert!(matches!(
        Spec::from_slice(&long),
        Err(crate::Error::TooLong { .. })
    ));
}

#[test]
fn features_survive() {
    let document = json!({
        "ociVersionMin": "1.0.0", "ociVersionMax": "1.3.0", "hooks": ["prestart"], "mountOptions": ["ro"],
        "linux": {"namespaces": ["pid"], "cgroup": {"v1": true, "systemdUser": false},
            "seccomp": {"enabled": true, "knownFlags": ["x"]}, "mountExtensions": {"idmap": {"enabled": true}}},
        "annotations": {"a": "b"}, "potentiallyUnsafeConfigAnnotations": ["c."]
    });
    let features: Features = serde_json::from_value(document.clone()).unwrap();
    assert_eq!(serde_json::to_value(features).unwrap(), document);
}
