//! The settings as a configuration file, read and written.

use std::path::{Path, PathBuf};

use super::section::{ConfigError, Section, Text};
use super::{Config, set, ttrpc_of};

impl Config {
    /// The settings as a file of version 2 that results in them.
    pub(crate) fn to_toml(&self) -> String {
        let quoted = |path: &Path| format!("{:?}", path.display().to_string());
        let lines = [
            "version = 2".to_owned(),
            format!("root = {}", quoted(&self.root)),
            format!("state = {}", quoted(&self.state)),
            format!("oom_score = {}", self.oom_score),
            format!("disabled_plugins = {:?}", self.disabled_plugins),
            format!("required_plugins = {:?}", self.required_plugins),
            "\n[grpc]".to_owned(),
            format!("  address = {}", quoted(&self.address)),
            format!("  uid = {}\n  gid = {}", self.uid, self.gid),
            format!("  max_recv_message_size = {}", self.max_recv_message_size),
            format!("  max_send_message_size = {}", self.max_send_message_size),
            format!("\n[ttrpc]\n  address = {}", quoted(&self.ttrpc_address)),
            format!("\n[debug]\n  level = {:?}", self.log_level),
            "\n[plugins.\"io.containerd.gc.v1.scheduler\"]".to_owned(),
            format!("  pause_threshold = {:?}", self.gc.pause_threshold),
            format!("  deletion_threshold = {}", self.gc.deletion_threshold),
            format!("  mutation_threshold = {}", self.gc.mutation_threshold),
            format!(
                "  schedule_delay = \"{}ms\"",
                self.gc.schedule_delay.as_millis()
            ),
            format!(
                "  startup_delay = \"{}ms\"",
                self.gc.startup_delay.as_millis()
            ),
            "\n[plugins.\"io.containerd.snapshotter.v1.overlayfs\"]".to_owned(),
            format!(
                "  root_path = {}",
                self.overlay
                    .root_path
                    .as_deref()
                    .map_or("\"\"".to_owned(), quoted)
            ),
            format!("  upperdir_label = {}", self.overlay.upperdir_label),
            format!("  sync_remove = {}", self.overlay.sync_remove),
            format!("  slow_chown = {}", self.overlay.slow_chown),
            format!("  mount_options = {:?}", self.overlay.mount_options),
            "\n[plugins.\"io.containerd.transfer.v1.local\"]".to_owned(),
            format!(
                "  max_concurrent_downloads = {}",
                self.transfer.max_concurrent_downloads
            ),
            format!("  config_path = {:?}", self.transfer.config_path),
            format!(
                "\n[plugins.\"io.containerd.shim.v1.manager\"]\n  env = {:?}\n",
                self.shim_env
            ),
        ];
        lines.join("\n")
    }

    pub(super) fn merge(
        &mut self,
        text: Text<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<(), ConfigError> {
        let mut top = Section::parse(text)?;
        top.integer("version", 0..=4)?;
        set(&mut self.root, top.nonempty("root")?.map(PathBuf::from));
        set(&mut self.state, top.nonempty("state")?.map(PathBuf::from));
        set(
            &mut self.oom_score,
            top.integer("oom_score", -1000..=1000)?
                .map(|score| score as i32),
        );
        set(&mut self.disabled_plugins, top.strings("disabled_plugins")?);
        set(&mut self.required_plugins, top.strings("required_plugins")?);
        self.merge_sockets(&mut top, warnings)?;
        let mut debug = top.table("debug")?;
        set(&mut self.log_level, debug.nonempty("level")?);
        for key in ["address", "format"] {
            if let Some(value) = debug.nonempty(key)? {
                warnings.push(format!("{}: debug.{key} = {value:?} is not supported by this version and has no effect", text.path));
            }
        }
        debug.integer("uid", 0..=i64::from(u32::MAX))?;
        debug.integer("gid", 0..=i64::from(u32::MAX))?;
        debug.boolean("log_trace_id")?;
        debug.finish(warnings);
        let mut plugins = top.table("plugins")?;
        self.merge_plugins(&mut plugins, warnings)?;
        for name in plugins.names() {
            plugins.table(&name)?.finish_unbuilt(warnings);
        }
        for key in [
            "proxy_plugins",
            "stream_processors",
            "timeouts",
            "metrics",
            "cgroup",
        ] {
            let mut table = top.table(key)?;
            // dockerd writes its whole structure: empty values mean nothing was asked for.
            for empty in ["address", "path"] {
                table.nonempty(empty)?.into_iter().for_each(|value| {
                    warnings.push(format!("{}: {key}.{empty} = {value:?} is not supported by this version and has no effect", text.path));
                });
            }
            table.boolean("grpc_histogram")?;
            table.finish_unbuilt(warnings);
        }
        if let Some(imports) = top
            .strings("imports")?
            .filter(|imports| !imports.is_empty())
        {
            warnings.push(format!(
                "{}: imports {imports:?} are not supported by this version and have no effect",
                text.path
            ));
        }
        top.finish(warnings);
        Ok(())
    }

    fn merge_sockets(
        &mut self,
        top: &mut Section<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<(), ConfigError> {
        let ids = 0..=i64::from(u32::MAX);
        let sizes = 0..=(1_i64 << 30);
        let mut grpc = top.table("grpc")?;
        if let Some(address) = grpc.nonempty("address")? {
            self.address = address.into();
            self.ttrpc_address = ttrpc_of(&self.address);
        }
        set(
            &mut self.uid,
            grpc.integer("uid", ids.clone())?.map(|id| id as u32),
        );
        set(
            &mut self.gid,
            grpc.integer("gid", ids.clone())?.map(|id| id as u32),
        );
        let positive = |size: i64| (size > 0).then_some(size as usize);
        set(
            &mut self.max_recv_message_size,
            grpc.integer("max_recv_message_size", sizes.clone())?
                .and_then(positive),
        );
        set(
            &mut self.max_send_message_size,
            grpc.integer("max_send_message_size", sizes)?
                .and_then(positive),
        );
        for key in [
            "tcp_address",
            "tcp_tls_ca",
            "tcp_tls_cert",
            "tcp_tls_key",
            "tcp_tls_common_name",
        ] {
            if grpc.nonempty(key)?.is_some() {
                warnings.push(format!(
                    "grpc.{key} is not supported by this version and has no effect"
                ));
            }
        }
        grpc.finish(warnings);
        let mut ttrpc = top.table("ttrpc")?;
        set(
            &mut self.ttrpc_address,
            ttrpc.nonempty("address")?.map(PathBuf::from),
        );
        ttrpc.integer("uid", ids.clone())?;
        ttrpc.integer("gid", ids)?;
        ttrpc.finish(warnings);
        Ok(())
    }

    fn merge_plugins(
        &mut self,
        plugins: &mut Section<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<(), ConfigError> {
        let counts = 0..=i64::from(u32::MAX);
        let mut gc = plugins.table("io.containerd.gc.v1.scheduler")?;
        set(
            &mut self.gc.pause_threshold,
            gc.fraction("pause_threshold")?,
        );
        set(
            &mut self.gc.deletion_threshold,
            gc.integer("deletion_threshold", counts.clone())?
                .map(i64::unsigned_abs),
        );
        set(
            &mut self.gc.mutation_threshold,
            gc.integer("mutation_threshold", counts)?
                .map(i64::unsigned_abs),
        );
        set(&mut self.gc.schedule_delay, gc.duration("schedule_delay")?);
        set(&mut self.gc.startup_delay, gc.duration("startup_delay")?);
        gc.finish(warnings);
        let mut overlay = plugins.table("io.containerd.snapshotter.v1.overlayfs")?;
        self.overlay.root_path = overlay
            .nonempty("root_path")?
            .map(PathBuf::from)
            .or(self.overlay.root_path.take());
        set(
            &mut self.overlay.upperdir_label,
            overlay.boolean("upperdir_label")?,
        );
        set(
            &mut self.overlay.sync_remove,
            overlay.boolean("sync_remove")?,
        );
        set(
            &mut self.overlay.mount_options,
            overlay.strings("mount_options")?,
        );
        set(&mut self.overlay.slow_chown, overlay.boolean("slow_chown")?);
        overlay.finish(warnings);
        let mut transfer = plugins.table("io.containerd.transfer.v1.local")?;
        let downloads = transfer
            .integer("max_concurrent_downloads", 1..=64)?
            .map(|count| count as usize);
        set(&mut self.transfer.max_concurrent_downloads, downloads);
        set(
            &mut self.transfer.config_path,
            transfer.nonempty("config_path")?,
        );
        transfer.finish_unbuilt(warnings);
        let mut shim = plugins.table("io.containerd.shim.v1.manager")?;
        set(&mut self.shim_env, shim.strings("env")?);
        shim.finish_unbuilt(warnings);
        self.merge_servers(plugins, warnings)
    }

    /// Sockets as version 4 names them.
    fn merge_servers(
        &mut self,
        plugins: &mut Section<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<(), ConfigError> {
        let mut server = plugins.table("io.containerd.server.v1.grpc")?;
        if let Some(address) = server.nonempty("address")? {
            self.address = address.into();
            self.ttrpc_address = ttrpc_of(&self.address);
        }
        let ids = 0..=i64::from(u32::MAX);
        set(
            &mut self.uid,
            server.integer("uid", ids.clone())?.map(|id| id as u32),
        );
        set(
            &mut self.gid,
            server.integer("gid", ids)?.map(|id| id as u32),
        );
        server.finish_unbuilt(warnings);
        let mut ttrpc = plugins.table("io.containerd.server.v1.ttrpc")?;
        set(
            &mut self.ttrpc_address,
            ttrpc.nonempty("address")?.map(PathBuf::from),
        );
        ttrpc.finish_unbuilt(warnings);
        Ok(())
    }
}
