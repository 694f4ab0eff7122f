//! `hoist pull`.

use crate::cli::PullArgs;
use crate::context::Context;
use crate::{image, output};

/// Fetches an image and unpacks it.
pub(crate) async fn pull(context: &Context, args: &PullArgs) -> anyhow::Result<()> {
    let name = model::reference::familiar(&args.image)?.to_string();
    let options = image::pull_options(&args.registry, args.platform.as_deref())?;
    image::pull(&context.client, &name, &options, args.quiet).await?;
    if context.json {
        let record = context.image(&name).await?;
        let target = record.target.unwrap_or_default();
        let value = serde_json::json!({"name": name, "digest": target.digest, "media_type": target.media_type});
        return Ok(output::print(&format!("{value}\n"))?);
    }
    Ok(output::print(&format!("{name}\n"))?)
}
