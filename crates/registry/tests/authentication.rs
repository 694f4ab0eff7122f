//! Who sees credentials: the host that they were given for, and nobody else.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use model::{ErrorKind, Kinded, Reference};
use registry::testing::{Auth, Fault, Image, Layer, PushedImage, Registry};
use registry::{
    Client, Config, Credential, Credentials, Error, Hosts, Question, Repository, Scheme, Secret,
};

#[derive(Debug, Default)]
struct Keys {
    credential: Option<Credential>,
    asked: Mutex<Vec<String>>,
    broken: bool,
}

#[async_trait]
impl Credentials for Keys {
    async fn get(
        &self,
        question: Question,
    ) -> Result<Option<Credential>, Box<dyn std::error::Error + Send + Sync>> {
        self.asked.lock().unwrap().push(question.host);
        if self.broken {
            return Err("helper failed".into());
        }
        Ok(self.credential.clone())
    }
}

fn password() -> Arc<Keys> {
    keys(Credential::Password {
        username: "user".into(),
        secret: Secret::new("canary"),
    })
}

fn keys(credential: Credential) -> Arc<Keys> {
    Arc::new(Keys {
        credential: Some(credential),
        ..Keys::default()
    })
}

fn open(registry: &Registry, keys: &Arc<Keys>) -> Repository {
    let reference = Reference::parse(&registry.name("app:1")).unwrap();
    let config = Config {
        backoff: Duration::from_millis(1),
        retries: 1,
        ..Config::default()
    };
    let hosts = Hosts::direct(registry.authority(), Some(Scheme::Http));
    Client::new(config)
        .unwrap()
        .repository(&reference, &hosts, &(keys.clone() as _))
        .unwrap()
}

async fn with_image() -> (Registry, PushedImage) {
    let registry = Registry::start().await;
    let layers = vec![Layer::file("a", b"b")];
    let pushed = registry.push_image(
        "app",
        "1",
        &Image {
            layers,
            ..Image::default()
        },
    );
    (registry, pushed)
}

fn token(user: bool, post: bool) -> Auth {
    Auth::Token {
        user: user.then(|| ("user".into(), "canary".into())),
        post,
        expires_in: Some(300),
        realm: None,
    }
}

#[tokio::test]
async fn every_way_in() {
    let (registry, pushed) = with_image().await;
    for (auth, credential) in [
        (Auth::Basic("user".into(), "canary".into()), password()),
        (token(false, true), Arc::new(Keys::default())),
        (token(true, true), password()),
        (token(true, false), password()),
        (
            token(true, true),
            keys(Credential::Refresh(Secret::new("refresh-canary"))),
        ),
        (
            Auth::Basic("user".into(), "canary".into()),
            keys(Credential::Header(Secret::new("Basic dXNlcjpjYW5hcnk="))),
        ),
    ] {
        registry.auth(auth.clone());
        let repository = open(&registry, &credential);
        let resolved = repository
            .resolve()
            .await
            .unwrap_or_else(|error| panic!("{auth:?}: {error}"));
        assert_eq!(resolved.descriptor, pushed.manifest);
        repository.manifest(&pushed.manifest).await.unwrap();
        repository.fetch(&pushed.layers[0], 0).await.unwrap();
        assert_eq!(
            *credential.asked.lock().unwrap(),
            [registry.authority()],
            "{auth:?}"
        );
    }
}

#[tokio::test]
async fn tokens_are_kept_and_renewed() {
    let (registry, pushed) = with_image().await;
    registry.auth(token(true, true));
    let repository = open(&registry, &password());
    repository.resolve().await.unwrap();
    repository.manifest(&pushed.manifest).await.unwrap();
    assert_eq!(registry.count("POST", "/token"), 1);
    registry.revoke_tokens();
    let (left, right) = tokio::join!(repository.manifest(&pushed.manifest), repository.resolve());
    assert!(left.is_ok() && right.is_ok());
    assert!(registry.count("POST", "/token") <= 3);
    // The password was sent once; the refresh token that came back serves from then on.
    let bodies: Vec<_> = registry
        .requests()
        .into_iter()
        .filter(|request| request.target == "/token")
        .map(|request| String::from_utf8(request.body).unwrap())
        .collect();
    assert!(
        bodies[0].contains("password=canary") && bodies[1].contains("refresh_token="),
        "{bodies:?}"
    );
}

#[tokio::test]
async fn refusals_say_who_and_show_no_secret() {
    let (registry, _) = with_image().await;
    let wrong = || {
        keys(Credential::Password {
            username: "user".into(),
            secret: Secret::new("wrong-canary"),
        })
    };
    for auth in [
        Auth::Basic("user".into(), "x".into()),
        token(true, true),
        token(true, false),
    ] {
        registry.auth(auth);
        for keys in [wrong(), Arc::new(Keys::default())] {
            let error = open(&registry, &keys).resolve().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
            let shown = format!("{} {error:?} {keys:?}", model::chain(&error));
            assert!(
                shown.contains(registry.authority()) && !shown.contains("canary"),
                "{shown}"
            );
        }
    }
    let broken = Arc::new(Keys {
        broken: true,
        ..Keys::default()
    });
    assert!(matches!(
        open(&registry, &broken).resolve().await,
        Err(Error::Credentials { .. })
    ));
    registry.auth(token(false, true));
    registry.fault("/token", Fault::EndlessStatus(200));
    assert!(open(&registry, &wrong()).resolve().await.is_err());
    registry.fault("/token", Fault::RedirectLoop);
    assert!(matches!(
        open(&registry, &wrong()).resolve().await,
        Err(Error::Redirect { .. })
    ));
}

#[tokio::test]
async fn other_hosts_see_nothing() {
    let (registry, pushed) = with_image().await;
    let (elsewhere, _) = with_image().await;
    for auth in [
        Auth::Basic("user".into(), "canary".into()),
        token(true, true),
    ] {
        registry.auth(auth);
        let target = format!(
            "http://someone:secret@{}/v2/app/blobs/{}",
            elsewhere.authority(),
            pushed.layers[0].digest
        );
        registry.fault(
            "/blobs/",
            Fault::Redirect(307, format!("{target}?sig=canary")),
        );
        let repository = open(&registry, &password());
        repository.resolve().await.unwrap();
        repository.fetch(&pushed.layers[0], 0).await.unwrap();
        registry.clear_faults();
    }
    // Even when it asks for them, and even when it sends us back.
    elsewhere.auth(Auth::Basic("user".into(), "canary".into()));
    registry.fault(
        "/blobs/",
        Fault::Redirect(
            307,
            format!("http://{}/v2/app/blobs/x?sig=canary", elsewhere.authority()),
        ),
    );
    let error = open(&registry, &password())
        .fetch(&pushed.layers[0], 0)
        .await
        .unwrap_err();
    assert!(!format!("{} {error:?}", model::chain(&error)).contains("canary"));
    let seen = elsewhere.requests();
    assert!(seen.len() >= 3);
    assert!(
        seen.iter()
            .all(|request| request.header("authorization").is_none()),
        "{seen:?}"
    );
}

#[tokio::test]
async fn realms_without_encryption_are_refused() {
    let (registry, _) = with_image().await;
    for realm in [
        "http://example.com/token",
        "ftp://x/token",
        "nonsense",
        "https://user:pw@example.com/token",
    ] {
        registry.auth(Auth::Token {
            user: None,
            post: true,
            expires_in: None,
            realm: Some(realm.into()),
        });
        let error = open(&registry, &password()).resolve().await.unwrap_err();
        assert!(matches!(error, Error::Challenge { .. }), "{realm}: {error}");
    }
    let header = vec![("www-authenticate".into(), "Negotiate".into())];
    registry.fault("manifests", Fault::Status(401, header, String::new()));
    assert!(matches!(
        open(&registry, &password()).resolve().await,
        Err(Error::Challenge { .. })
    ));
}

#[tokio::test]
async fn headers_of_the_configuration_stay_with_their_host() {
    let (registry, pushed) = with_image().await;
    let (elsewhere, _) = with_image().await;
    let mut hosts = Hosts::direct(registry.authority(), Some(Scheme::Http));
    hosts.hosts[0].headers = vec![("x-key".into(), "canary".into())];
    assert!(!format!("{hosts:?}").contains("canary"));
    let reference = Reference::parse(&registry.name("app:1")).unwrap();
    let repository = Client::new(Config::default())
        .unwrap()
        .repository(&reference, &hosts, &(password() as _))
        .unwrap();
    registry.fault(
        "/blobs/",
        Fault::Redirect(
            302,
            format!(
                "http://{}/v2/app/blobs/{}",
                elsewhere.authority(),
                pushed.layers[0].digest
            ),
        ),
    );
    repository.fetch(&pushed.layers[0], 0).await.unwrap();
    assert_eq!(registry.requests()[0].header("x-key"), Some("canary"));
    assert_eq!(elsewhere.requests()[0].header("x-key"), None);
}
