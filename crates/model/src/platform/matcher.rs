//! Which of several platforms can run here, and which runs best.

use std::cmp::Reverse;

use super::Platform;

/// Says which platforms are wanted and ranks them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformMatcher {
    rule: Rule,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    All,
    /// Earlier entries are better.
    Ordered(Vec<Platform>),
    /// Every entry is as good as the next.
    Any(Vec<Platform>),
}

impl PlatformMatcher {
    /// Matches everything and prefers nothing.
    pub fn all() -> Self {
        Self { rule: Rule::All }
    }

    /// Matches what a host of platform `wanted` can run, closest first.
    ///
    /// amd64 runs lower microarchitecture levels and 386; arm64 runs lower v8.x and v9.x and 32-bit arm; arm
    /// v7 runs v6 and v5.
    pub fn only(wanted: &Platform) -> Self {
        Self::ordered(compatible(&wanted.normalize()))
    }

    /// Matches exactly `wanted`, aliases aside.
    pub fn only_strict(wanted: &Platform) -> Self {
        Self::ordered(vec![wanted.clone()])
    }

    /// Matches any of the platforms and prefers earlier ones.
    pub fn ordered(platforms: impl IntoIterator<Item = Platform>) -> Self {
        let platforms = platforms.into_iter().map(|each| each.normalize());
        Self {
            rule: Rule::Ordered(platforms.collect()),
        }
    }

    /// Matches any of the platforms and prefers none.
    pub fn any(platforms: impl IntoIterator<Item = Platform>) -> Self {
        let platforms = platforms.into_iter().map(|each| each.normalize());
        Self {
            rule: Rule::Any(platforms.collect()),
        }
    }

    /// Whether `platform` is wanted at all.
    pub fn matches(&self, platform: &Platform) -> bool {
        self.rank(platform).is_some()
    }

    /// Whether `left` is to be preferred to `right`.
    pub fn less(&self, left: &Platform, right: &Platform) -> bool {
        match (self.rank(left), self.rank(right)) {
            (Some(left), Some(right)) => left < right,
            (left, right) => left.is_some() && right.is_none(),
        }
    }

    /// The place of `platform`: smaller is better, `None` is not wanted.
    fn rank(&self, platform: &Platform) -> Option<(usize, Reverse<usize>)> {
        let normal = platform.normalize();
        let features = Reverse(normal.os_features.len());
        match &self.rule {
            Rule::All => Some((0, Reverse(0))),
            Rule::Ordered(list) => list
                .iter()
                .position(|each| fits(each, &normal))
                .map(|place| (place, features)),
            Rule::Any(list) => list
                .iter()
                .any(|each| fits(each, &normal))
                .then_some((0, features)),
        }
    }
}

/// Both are normal. The image may ask for no feature that the host lacks.
fn fits(host: &Platform, image: &Platform) -> bool {
    host.os == image.os
        && host.architecture == image.architecture
        && host.variant == image.variant
        && (host.os != "windows" || same_windows_build(&host.os_version, &image.os_version))
        && image
            .os_features
            .iter()
            .all(|feature| host.os_features.contains(feature))
}

/// Windows images run on hosts of their own build: the first three numbers of the version are compared.
fn same_windows_build(host: &str, image: &str) -> bool {
    let build = |version: &str| {
        version
            .split('.')
            .take(3)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    host.is_empty() || image.is_empty() || build(host) == build(image)
}

/// What a host of the normal platform `host` can run, closest first.
fn compatible(host: &Platform) -> Vec<Platform> {
    let with = |architecture: &str, variant: String| Platform {
        architecture: architecture.into(),
        variant,
        ..host.clone()
    };
    let level = |variant: &str| {
        variant
            .trim_start_matches('v')
            .parse::<u32>()
            .unwrap_or(0)
            .min(99)
    };
    let arm32 = |from: u32| (5..=from).rev().map(move |each| format!("v{each}"));
    match host.architecture.as_str() {
        "amd64" => std::iter::once(host.clone())
            .chain(
                (1..level(&host.variant))
                    .rev()
                    .map(|each| with("amd64", format!("v{each}"))),
            )
            .chain([with("386", String::new())])
            .collect(),
        "arm" if level(&host.variant) > 5 => arm32(level(&host.variant))
            .map(|variant| with("arm", variant))
            .collect(),
        "arm64" => match arm64_levels(&host.variant) {
            Some(levels) => levels
                .into_iter()
                .map(|variant| with("arm64", variant))
                .chain(arm32(8).map(|variant| with("arm", variant)))
                .collect(),
            None => vec![host.clone()],
        },
        _ => vec![host.clone()],
    }
}

/// The arm64 variants that `variant` can run. Armv9.x includes everything of Armv8.(x+5).
fn arm64_levels(variant: &str) -> Option<Vec<String>> {
    let text = if variant.is_empty() { "v8" } else { variant };
    let (major, minor) = text
        .strip_prefix('v')?
        .split_once('.')
        .unwrap_or((text.strip_prefix('v')?, "0"));
    let minor: u32 = minor.parse().ok().filter(|minor| *minor <= 9)?;
    let name = |major: u32, minor: u32| match minor {
        0 => format!("v{major}"),
        minor => format!("v{major}.{minor}"),
    };
    let eights = |from: u32| (0..=from.min(9)).rev().map(move |minor| name(8, minor));
    match major {
        "8" => Some(eights(minor).collect()),
        "9" if minor <= 7 => Some(
            (0..=minor)
                .rev()
                .map(|minor| name(9, minor))
                .chain(eights(minor + 5))
                .collect(),
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        Platform::parse(text).unwrap()
    }

    #[test]
    fn hosts_run_what_they_can_closest_first() {
        for (host, best_first, never) in [
            (
                "linux/amd64",
                vec!["linux/amd64", "linux/386"],
                vec!["linux/amd64/v2", "linux/arm64", "windows/amd64"],
            ),
            (
                "linux/amd64/v3",
                vec![
                    "linux/amd64/v3",
                    "linux/amd64/v2",
                    "linux/amd64",
                    "linux/386",
                ],
                vec!["linux/amd64/v4"],
            ),
            (
                "linux/arm64",
                vec![
                    "linux/arm64",
                    "linux/arm/v8",
                    "linux/arm/v7",
                    "linux/arm/v6",
                    "linux/arm/v5",
                ],
                vec!["linux/arm64/v8.1", "linux/amd64"],
            ),
            (
                "linux/arm64/v9",
                vec![
                    "linux/arm64/v9",
                    "linux/arm64/v8.5",
                    "linux/arm64",
                    "linux/arm/v8",
                ],
                vec!["linux/arm64/v9.1", "linux/arm64/v8.6"],
            ),
            (
                "linux/arm/v7",
                vec!["linux/arm/v7", "linux/arm/v6", "linux/arm/v5"],
                vec!["linux/arm/v8"],
            ),
            ("linux/riscv64", vec!["linux/riscv64"], vec!["linux/riscv"]),
        ] {
            let matcher = PlatformMatcher::only(&platform(host));
            for pair in best_first.windows(2) {
                assert!(
                    matcher.less(&platform(pair[0]), &platform(pair[1])),
                    "{host}: {pair:?}"
                );
                assert!(
                    !matcher.less(&platform(pair[1]), &platform(pair[0])),
                    "{host}: {pair:?}"
                );
            }
            assert!(
                best_first
                    .iter()
                    .all(|each| matcher.matches(&platform(each))),
                "{host}"
            );
            assert!(
                !never.iter().any(|each| matcher.matches(&platform(each))),
                "{host}"
            );
        }
    }

    #[test]
    fn features_must_be_there_and_more_are_better() {
        let matcher = PlatformMatcher::only(&platform("linux(+erofs)/amd64"));
        let plain = platform("linux/amd64");
        let erofs = platform("linux(+erofs)/amd64");
        assert!(matcher.matches(&plain) && matcher.matches(&erofs));
        assert!(matcher.less(&erofs, &plain) && !matcher.less(&plain, &erofs));
        assert!(!matcher.matches(&platform("linux(+other)/amd64")));
        assert!(!PlatformMatcher::only(&plain).matches(&erofs));
    }

    #[test]
    fn lists_strictness_and_everything() {
        let (amd, arm) = (platform("linux/amd64"), platform("linux/arm64"));
        let any = PlatformMatcher::any([amd.clone(), arm.clone()]);
        assert!(any.matches(&amd) && any.matches(&arm) && !any.less(&amd, &arm));
        let ordered = PlatformMatcher::ordered([arm.clone(), amd.clone()]);
        assert!(ordered.less(&arm, &amd));
        assert!(!PlatformMatcher::only_strict(&amd).matches(&platform("linux/386")));
        assert!(PlatformMatcher::only_strict(&arm).matches(&platform("linux/arm64/v8")));
        assert!(PlatformMatcher::all().matches(&platform("any/thing")));
    }
}
