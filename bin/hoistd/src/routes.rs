//! The services on the sockets: gRPC for clients, ttrpc for shims.

use proto::Method;
use proto::containerd::services::events::ttrpc::v1::{ForwardRequest, events_service};
use services::scope::Scope;
use services::streaming::Streams;
use tonic::service::Routes;
use ttrpc::server::{Peers, Server};

use crate::assemble::Daemon;
use crate::config::Config;

/// Sets both message limits of a service.
macro_rules! limited {
    ($config:expr, $server:expr) => {
        $server
            .max_decoding_message_size($config.max_recv_message_size)
            .max_encoding_message_size($config.max_send_message_size)
    };
}

/// The gRPC services. A path that no service has answers Unimplemented.
pub(crate) fn routes(daemon: &Daemon, parts: Vec<services::Part>, config: &Config) -> Routes {
    use api::containerd::services as wire;
    let scope = Scope::new(daemon.db.clone());
    let streams = Streams::default();
    let shims = daemon.tasks.shims().clone();
    let version = services::version::Service::new(Daemon::version(), "");
    let introspection = services::introspection::Service::new(parts, daemon.uuid.clone(), shims);
    let folders = config
        .transfer
        .config_path
        .split(':')
        .filter(|folder| !folder.is_empty());
    let transfer = services::transfer::Service::new(
        daemon.db.clone(),
        daemon.transfer.clone(),
        daemon.registry.clone(),
        folders.map(Into::into).collect(),
        streams.clone(),
        std::sync::Arc::new(model::SystemClock),
    );
    let diff = services::diff::Service::new(scope.clone(), daemon.unpacker.clone());
    let (health, health_server) = tonic_health::server::health_reporter();
    drop(health);
    let mut routes = Routes::new(health_server);
    macro_rules! serve {
        ($($package:ident::$module:ident::$server:ident => $service:expr;)*) => {
            $(routes = routes.add_service(limited!(
                config,
                wire::$package::v1::$module::$server::new($service)
            ));)*
        };
    }
    serve! {
        containers::containers_server::ContainersServer => services::containers::Service::new(scope.clone());
        content::content_server::ContentServer => services::content::Service::new(scope.clone());
        diff::diff_server::DiffServer => diff;
        events::events_server::EventsServer => services::events::Service::new(daemon.exchange.clone());
        images::images_server::ImagesServer => services::images::Service::new(scope.clone());
        introspection::introspection_server::IntrospectionServer => introspection;
        leases::leases_server::LeasesServer => services::leases::Service::new(scope.clone());
        namespaces::namespaces_server::NamespacesServer => services::namespaces::Service::new(scope.clone());
        snapshots::snapshots_server::SnapshotsServer => services::snapshots::Service::new(scope.clone());
        streaming::streaming_server::StreamingServer => services::streaming::Service::new(streams.clone());
        tasks::tasks_server::TasksServer => services::tasks::Service::new(daemon.tasks.clone());
        transfer::transfer_server::TransferServer => transfer;
        version::version_server::VersionServer => version;
    }
    routes
}

/// The ttrpc services: shims of our own user forward events.
pub(crate) fn ttrpc(shims: shims::Manager) -> Server {
    let user = rustix::process::geteuid().as_raw();
    Server::new(Peers::User(user)).service(events_service::NAME, move |call| {
        let shims = shims.clone();
        async move {
            if call.method != events_service::Forward::NAME {
                let message = format!("method {:?} is not there", call.method);
                return Err(ttrpc::Status::new(model::ErrorKind::Unimplemented, message));
            }
            let request: ForwardRequest = call.argument()?;
            let refused = |status: tonic::Status| {
                ttrpc::Status::new(api::status::kind(status.code()), status.message())
            };
            let envelope = services::events::envelope(request.envelope).map_err(refused)?;
            shims.forward(envelope).map_err(|error| {
                ttrpc::Status::new(model::Kinded::kind(&error), model::chain(&error))
            })?;
            // google.protobuf.Empty
            Ok(Vec::new())
        }
    })
}
