//! `hoist rmi`.

use anyhow::bail;
use client::Error;
use proto::containerd::services::images::v1::DeleteImageRequest;

use crate::cli::RmiArgs;
use crate::context::Context;
use crate::output;

/// Removes images; with the last one, what nothing else needs is collected before the answer.
pub(crate) async fn rmi(context: &Context, args: &RmiArgs) -> anyhow::Result<()> {
    let mut failures = Vec::new();
    for (index, name) in args.images.iter().enumerate() {
        let removed = async {
            let image = context.image(name).await?;
            let sync = index + 1 == args.images.len();
            let request = DeleteImageRequest {
                name: image.name.clone(),
                sync,
                ..Default::default()
            };
            let act = format!("remove image {:?}", image.name);
            context
                .client
                .images()
                .delete(request)
                .await
                .map_err(Error::call(act))?;
            anyhow::Ok(output::print(&format!("{}\n", image.name))?)
        };
        if let Err(error) = removed.await {
            failures.push(format!("{error:#}"));
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        bail!("{}", failures.join("\nhoist: "))
    }
}
