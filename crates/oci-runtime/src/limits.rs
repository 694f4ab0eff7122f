//! Limits of the specification as writes to cgroup files.

mod v1;
mod v2;

use spec::runtime::{DeviceRule as Rule, Resources};
use sys::cgroup::{Cgroup, DeviceKind, DeviceRule};

use crate::error::{Error, Result};

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    /// The controller whose folder holds the file.
    pub(crate) controller: &'static str,
    pub(crate) file: String,
    pub(crate) value: String,
    /// The field of the specification.
    pub(crate) field: &'static str,
}

fn setting(
    controller: &'static str,
    file: impl Into<String>,
    value: impl std::fmt::Display,
    field: &'static str,
) -> Setting {
    Setting {
        controller,
        file: file.into(),
        value: value.to_string(),
        field,
    }
}

/// Devices that every container may use (config-linux.md#default-devices), and making of any node.
const DEFAULT_DEVICES: [(DeviceKind, Option<u32>, Option<u32>, bool); 11] = [
    (DeviceKind::Char, None, None, false),
    (DeviceKind::Block, None, None, false),
    (DeviceKind::Char, Some(1), Some(3), true),
    (DeviceKind::Char, Some(1), Some(5), true),
    (DeviceKind::Char, Some(1), Some(7), true),
    (DeviceKind::Char, Some(1), Some(8), true),
    (DeviceKind::Char, Some(1), Some(9), true),
    (DeviceKind::Char, Some(5), Some(0), true),
    (DeviceKind::Char, Some(5), Some(2), true),
    (DeviceKind::Char, Some(136), None, true),
    (DeviceKind::Char, Some(10), Some(200), true),
];

/// Applies the limits of a new container.
pub(crate) fn apply(cgroup: &Cgroup, resources: &Resources) -> Result<()> {
    set(cgroup, resources)?;
    let mut rules = resources
        .devices
        .iter()
        .map(device)
        .collect::<Result<Vec<_>>>()?;
    rules.extend(DEFAULT_DEVICES.map(|(kind, major, minor, all)| DeviceRule {
        allow: true,
        kind,
        major,
        minor,
        read: all,
        write: all,
        mknod: true,
    }));
    Ok(cgroup.set_devices(&rules)?)
}

/// Applies those limits that are named.
pub(crate) fn update(cgroup: &Cgroup, resources: &Resources) -> Result<()> {
    set(cgroup, resources)?;
    if !resources.devices.is_empty() {
        return apply(
            cgroup,
            &Resources {
                devices: resources.devices.clone(),
                ..Resources::default()
            },
        );
    }
    Ok(())
}

fn set(cgroup: &Cgroup, resources: &Resources) -> Result<()> {
    let settings = if cgroup.is_v2() {
        v2::settings(resources)?
    } else {
        v1::settings(cgroup, resources)?
    };
    for one in settings {
        cgroup.write(one.controller, &one.file, &one.value, one.field)?;
    }
    Ok(())
}

fn device(rule: &Rule) -> Result<DeviceRule> {
    let kind = match rule.kind.as_deref() {
        None | Some("" | "a") => DeviceKind::All,
        Some("c" | "u") => DeviceKind::Char,
        Some("b") => DeviceKind::Block,
        Some(other) => {
            return Err(Error::invalid(
                "linux.resources.devices",
                format!("unknown type {other:?}"),
            ));
        }
    };
    let number = |value: Option<i64>| match value {
        None | Some(-1) => Ok(None),
        Some(value) => u32::try_from(value).map(Some).map_err(|_| {
            Error::invalid("linux.resources.devices", format!("{value} is no number"))
        }),
    };
    let access = rule
        .access
        .as_deref()
        .filter(|text| !text.is_empty())
        .unwrap_or("rwm");
    if access.chars().any(|letter| !"rwm".contains(letter)) {
        return Err(Error::invalid(
            "linux.resources.devices",
            format!("unknown access {access:?}"),
        ));
    }
    Ok(DeviceRule {
        allow: rule.allow,
        kind,
        major: number(rule.major)?,
        minor: number(rule.minor)?,
        read: access.contains('r'),
        write: access.contains('w'),
        mknod: access.contains('m'),
    })
}
