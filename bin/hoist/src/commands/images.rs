//! `hoist images`.

use model::{Clock, Platform, SystemClock};
use serde_json::json;

use crate::cli::ImagesArgs;
use crate::context::Context;
use crate::output;

/// Lists images.
pub(crate) async fn images(context: &Context, args: &ImagesArgs) -> anyhow::Result<()> {
    let namespaces = if args.all_namespaces {
        context.namespaces().await?
    } else {
        vec![context.namespace.clone()]
    };
    let mut rows = Vec::new();
    for namespace in &namespaces {
        let client = context.client.in_namespace(namespace);
        for record in context.images(namespace).await? {
            if args.quiet {
                output::print(&format!("{}\n", record.name))?;
                continue;
            }
            let target = record.target.clone().unwrap_or_default();
            let created =
                api::from_wire::timestamp("timestamp", record.created_at.unwrap_or_default());
            let created = created.map_or_else(
                |_| String::new(),
                |created| output::ago(created, SystemClock.now()),
            );
            // An image for other platforms only is listed all the same.
            let bytes = match client.read_image(record.clone(), &Platform::host()).await {
                Ok(image) => Some(
                    image
                        .manifest
                        .layers
                        .iter()
                        .map(|layer| layer.size)
                        .sum::<u64>(),
                ),
                Err(_) => None,
            };
            if context.json {
                let value = json!({
                    "namespace": namespace.as_str(), "name": record.name, "digest": target.digest,
                    "media_type": target.media_type, "size_bytes": bytes, "labels": record.labels,
                });
                output::print(&format!("{value}\n"))?;
                continue;
            }
            let digest: String = target
                .digest
                .chars()
                .skip("sha256:".len())
                .take(12)
                .collect();
            let mut row = vec![
                record.name,
                digest,
                bytes.map_or("-".to_owned(), output::size),
                created,
            ];
            if args.all_namespaces {
                row.insert(0, namespace.to_string());
            }
            rows.push(row);
        }
    }
    if !context.json && !args.quiet {
        let mut heading = vec!["IMAGE", "DIGEST", "SIZE", "PULLED"];
        if args.all_namespaces {
            heading.insert(0, "NAMESPACE");
        }
        output::print(&output::table(&heading, &rows))?;
    }
    Ok(())
}
