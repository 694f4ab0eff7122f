//! A hostile registry: each case ends with the right error, in bounded time and space.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use model::{Descriptor, Digest, ErrorKind, Kinded, Reference};
use registry::testing::{Fault, Image, Layer, PushedImage, Registry};
use registry::{Anonymous, Client, Config, Error, Hosts, Repository, Scheme};

fn config() -> Config {
    Config {
        backoff: Duration::from_millis(1),
        first_byte: Duration::from_millis(500),
        idle: Duration::from_millis(500),
        retries: 2,
        resumes: 2,
        ..Config::default()
    }
}

fn open(registry: &Registry, name: &str) -> Repository {
    let reference = Reference::parse(&registry.name(name)).unwrap();
    let hosts = Hosts::direct(registry.authority(), Some(Scheme::Http));
    let client = Client::new(config()).unwrap();
    client
        .repository(&reference, &hosts, &(std::sync::Arc::new(Anonymous) as _))
        .unwrap()
}

async fn with_image() -> (Registry, PushedImage) {
    let registry = Registry::start().await;
    let image = Image {
        layers: vec![Layer::file("big", &vec![7; 300_000]), Layer::tar(&[])],
        ..Image::default()
    };
    let pushed = registry.push_image("app", "1", &image);
    (registry, pushed)
}

async fn read(
    repository: &Repository,
    descriptor: &Descriptor,
    from: u64,
) -> Result<Vec<u8>, Error> {
    let mut body = repository.fetch(descriptor, from).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = body.chunk().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

#[tokio::test]
async fn an_image_comes_through() {
    let (registry, pushed) = with_image().await;
    let repository = open(&registry, "app:1");
    let resolved = repository.resolve().await.unwrap();
    assert_eq!(resolved.descriptor, pushed.manifest);
    assert_eq!(
        repository.manifest(&pushed.manifest).await.unwrap().len() as u64,
        pushed.manifest.size
    );
    let layer = &pushed.layers[1];
    let whole = read(&repository, layer, 0).await.unwrap();
    assert_eq!(whole.len() as u64, layer.size);
    assert_eq!(read(&repository, layer, 100).await.unwrap(), whole[100..]);
    let asked = registry.requests();
    assert_eq!(asked[0].method, "HEAD");
    assert!(
        asked
            .iter()
            .all(|request| request.header("user-agent").unwrap().starts_with("hoist/"))
    );
    assert_eq!(asked.last().unwrap().header("range"), Some("bytes=100-"));
}

#[tokio::test]
async fn missing_names_and_blobs_are_not_found() {
    let (registry, pushed) = with_image().await;
    let error = open(&registry, "app:2").resolve().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    registry.remove("app", &pushed.layers[0].digest);
    let error = read(&open(&registry, "app:1"), &pushed.layers[0], 0)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(
        error.to_string().contains("unknown to this test registry"),
        "{error}"
    );
    let error = open(&registry, "app").resolve().await.unwrap_err();
    assert!(matches!(error, Error::NoObject { .. }));
}

#[tokio::test]
async fn get_stands_in_for_head() {
    let (registry, pushed) = with_image().await;
    registry.fault("manifests", Fault::NoDigest);
    let resolved = open(&registry, "app:1").resolve().await.unwrap();
    assert_eq!(resolved.descriptor, pushed.manifest);
    assert!(resolved.bytes.is_some());
    registry.fault("manifests", Fault::ContentType("application/json".into()));
    let resolved = open(&registry, "app:1").resolve().await.unwrap();
    assert_eq!(resolved.descriptor, pushed.manifest);
    registry.fault_times("manifests", Fault::Status(405, vec![], String::new()), 1);
    assert_eq!(
        open(&registry, "app:1").resolve().await.unwrap().descriptor,
        pushed.manifest
    );
}

#[tokio::test]
async fn digests_are_held_against_the_answer() {
    let (registry, pushed) = with_image().await;
    let other: Digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
    registry.fault("manifests", Fault::HeaderDigest(other.to_string()));
    let by_digest = open(&registry, &format!("app@{}", pushed.manifest.digest));
    assert!(matches!(
        by_digest.resolve().await,
        Err(Error::WrongDigest { .. })
    ));
    // The server said another digest in HEAD than it has: reading what it said then fails.
    let resolved = open(&registry, "app:1").resolve().await.unwrap();
    assert_eq!(resolved.descriptor.digest, other);
    assert!(
        open(&registry, "app:1")
            .manifest(&resolved.descriptor)
            .await
            .is_err()
    );

    registry.clear_faults();
    registry.fault("manifests", Fault::WrongBytes);
    let error = open(&registry, "app:1")
        .manifest(&pushed.manifest)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::WrongDigest { .. }), "{error}");
}

#[tokio::test]
async fn what_is_no_manifest_is_named() {
    let (registry, pushed) = with_image().await;
    registry.fault("manifests", Fault::Html);
    for error in [
        open(&registry, "app:1")
            .resolve()
            .await
            .map(|_| ())
            .unwrap_err(),
        open(&registry, "app:1")
            .manifest(&pushed.manifest)
            .await
            .map(|_| ())
            .unwrap_err(),
    ] {
        let shown = error.to_string();
        assert!(matches!(error, Error::NotAManifest { .. }), "{shown}");
        assert!(
            shown.contains("text/html") && shown.contains(&registry.name("app:1")),
            "{shown}"
        );
    }
    let old = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    registry.fault("manifests", Fault::ContentType(old.into()));
    let error = open(&registry, "app:1").resolve().await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("schema 1 image manifests are no longer supported")
    );
    registry.fault(
        "manifests",
        Fault::Body("application/json".into(), b"{\"a\":1}".to_vec()),
    );
    assert!(matches!(
        open(&registry, "app:1").resolve().await,
        Err(Error::NotAManifest { .. })
    ));
}

#[tokio::test]
async fn bodies_of_the_wrong_length_are_refused() {
    let (registry, pushed) = with_image().await;
    let layer = Descriptor {
        size: 1024,
        ..pushed.layers[1].clone()
    };
    registry.fault("blobs", Fault::Endless);
    let error = read(&open(&registry, "app:1"), &layer, 0)
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::Length {
                expected: 1024,
                actual: 1025..,
                ..
            }
        ),
        "{error}"
    );
    registry.fault("blobs", Fault::Short(100));
    let error = read(&open(&registry, "app:1"), &pushed.layers[1], 0)
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::Length {
                expected: 1024,
                actual: 100,
                ..
            }
        ),
        "{error}"
    );
    for fault in [
        Fault::Endless,
        Fault::EndlessStatus(500),
        Fault::EndlessStatus(403),
    ] {
        registry.fault("manifests", fault);
        let error = open(&registry, "app:1")
            .manifest(&pushed.manifest)
            .await
            .unwrap_err();
        assert!(
            matches!(error, Error::TooLarge { .. } | Error::Status { .. }),
            "{error}"
        );
    }
    let huge = Descriptor {
        size: (4 << 20) + 1,
        ..pushed.manifest
    };
    let error = open(&registry, "app:1").manifest(&huge).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn broken_bodies_are_resumed_where_they_broke() {
    let (registry, pushed) = with_image().await;
    let layer = &pushed.layers[1];
    let whole = read(&open(&registry, "app:1"), layer, 0).await.unwrap();
    for (fault, times) in [(Fault::ResetAfter(600), 1), (Fault::StallAfter(10), 2)] {
        registry.fault_times("blobs", fault, times);
        assert_eq!(
            read(&open(&registry, "app:1"), layer, 0).await.unwrap(),
            whole
        );
    }
    assert!(
        registry
            .requests()
            .iter()
            .any(|request| request.header("range") == Some("bytes=600-"))
    );
    // Without ranges the bytes that we have are skipped.
    registry.fault("blobs", Fault::NoRanges);
    registry.fault_times("blobs", Fault::ResetAfter(600), 1);
    assert_eq!(
        read(&open(&registry, "app:1"), layer, 0).await.unwrap(),
        whole
    );
    assert_eq!(
        read(&open(&registry, "app:1"), layer, 1000).await.unwrap(),
        whole[1000..]
    );
    // A server that never gets further is given up.
    registry.fault("blobs", Fault::ResetAfter(0));
    let before = registry.count("GET", "blobs");
    assert!(read(&open(&registry, "app:1"), layer, 0).await.is_err());
    assert!(registry.count("GET", "blobs") - before <= 4);
}

#[tokio::test]
async fn failures_that_may_pass_are_tried_again() {
    let (registry, pushed) = with_image().await;
    let busy = |seconds: &str| {
        Fault::Status(
            429,
            vec![("retry-after".into(), seconds.into())],
            String::new(),
        )
    };
    for fault in [
        busy("0"),
        Fault::Status(503, vec![], String::new()),
        Fault::Silence,
    ] {
        registry.fault_times("manifests", fault, 2);
        assert_eq!(
            open(&registry, "app:1").resolve().await.unwrap().descriptor,
            pushed.manifest
        );
    }
    registry.fault("manifests", busy("100000"));
    let before = registry.count("HEAD", "manifests");
    let error = open(&registry, "app:1").resolve().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    assert_eq!(registry.count("HEAD", "manifests") - before, 1);
    registry.fault("manifests", Fault::Status(500, vec![], String::new()));
    let before = registry.count("HEAD", "manifests");
    assert_eq!(
        open(&registry, "app:1").resolve().await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    assert_eq!(registry.count("HEAD", "manifests") - before, 3);
}

#[tokio::test]
async fn redirects_end() {
    let (registry, pushed) = with_image().await;
    registry.fault("blobs", Fault::RedirectLoop);
    let error = read(&open(&registry, "app:1"), &pushed.layers[0], 0)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Redirect { .. }), "{error}");
    assert_eq!(registry.count("GET", "blobs"), 6);
    for target in ["file:///etc/passwd", "ftp://host/x", "::::"] {
        registry.fault("blobs", Fault::Redirect(302, target.into()));
        let error = read(&open(&registry, "app:1"), &pushed.layers[0], 0)
            .await
            .unwrap_err();
        assert!(
            matches!(error, Error::Redirect { .. } | Error::NotFound { .. }),
            "{error}"
        );
    }
}

#[tokio::test]
async fn mirrors_come_first_and_liars_are_passed_over() {
    let (origin, pushed) = with_image().await;
    let (mirror, _) = with_image().await;
    let reference = Reference::parse(&origin.name("app:1")).unwrap();
    let mut hosts = Hosts::direct(origin.authority(), Some(Scheme::Http));
    hosts
        .hosts
        .insert(0, registry::Host::new(Scheme::Http, mirror.authority()));
    let client = Client::new(config()).unwrap();
    let repository = client
        .repository(&reference, &hosts, &(std::sync::Arc::new(Anonymous) as _))
        .unwrap();
    repository.resolve().await.unwrap();
    assert!(origin.requests().is_empty());
    assert!(
        mirror.requests()[0]
            .target
            .contains(&format!("?ns={}", origin.authority().replace(':', "%3A")))
    );

    mirror.fault("manifests", Fault::WrongBytes);
    repository.manifest(&pushed.manifest).await.unwrap();
    assert_eq!(origin.count("GET", "manifests"), 1);

    let body = repository.fetch(&pushed.layers[0], 0).await.unwrap();
    assert_eq!(body.host(), mirror.authority());
    body.distrust();
    let body = repository.fetch(&pushed.layers[0], 0).await.unwrap();
    assert_eq!(body.host(), origin.authority());

    for fault in [
        Fault::Status(500, vec![], String::new()),
        Fault::Status(404, vec![], String::new()),
    ] {
        mirror.fault("", fault);
        let before = mirror.requests().len();
        repository.resolve().await.unwrap();
        assert_eq!(mirror.requests().len() - before, 1);
    }
    origin.fault("", Fault::Status(404, vec![], String::new()));
    mirror.fault(
        "",
        Fault::Status(403, vec![], "{\"message\":\"no\"}".into()),
    );
    let error = repository.resolve().await.unwrap_err();
    assert!(
        model::chain(&error).contains(mirror.authority())
            && model::chain(&error).contains(origin.authority())
    );
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn a_local_registry_without_tls_is_found_by_its_name() {
    let (registry, pushed) = with_image().await;
    let reference = Reference::parse(&registry.name("app:1")).unwrap();
    let client = Client::new(config()).unwrap();
    let hosts = Hosts::direct(registry.authority(), None);
    let repository = client
        .repository(&reference, &hosts, &(std::sync::Arc::new(Anonymous) as _))
        .unwrap();
    assert_eq!(
        repository.resolve().await.unwrap().descriptor,
        pushed.manifest
    );
    // No other host is ever asked without TLS.
    let mut strict = Hosts::direct(registry.authority(), Some(Scheme::Https));
    strict.hosts[0].skip_verify = true;
    let before = registry.requests().len();
    let repository = client
        .repository(&reference, &strict, &(std::sync::Arc::new(Anonymous) as _))
        .unwrap();
    assert!(repository.resolve().await.is_err());
    assert_eq!(registry.requests().len(), before);
}

#[tokio::test]
async fn foreign_urls_get_no_credentials() {
    let (registry, pushed) = with_image().await;
    let elsewhere = Registry::start().await;
    let mut layer = pushed.layers[0].clone();
    registry.remove("app", &layer.digest);
    layer.urls = vec![
        "file:///etc/passwd".into(),
        format!(
            "http://{}/v2/app/blobs/{}",
            elsewhere.authority(),
            layer.digest
        ),
    ];
    elsewhere.push_image(
        "app",
        "1",
        &Image {
            layers: vec![Layer::file("big", &vec![7; 300_000])],
            ..Image::default()
        },
    );
    read(&open(&registry, "app:1"), &layer, 0).await.unwrap();
    assert_eq!(elsewhere.requests().len(), 1);
}
