//! `containerd.services.images.v1.Images`.

use api::containerd::services::images::v1::images_server::Images;
use api::from_wire;
use metadata::Image;
use model::Timestamp;
use proto::containerd::services::images::v1 as wire;
use tonic::{Request, Response, Status};

use crate::scope::Scope;

/// The service.
#[derive(Debug, Clone)]
pub struct Service {
    scope: Scope,
}

impl Service {
    /// Serves the images of the store.
    pub fn new(scope: Scope) -> Self {
        Self { scope }
    }
}

fn image_to(image: Image) -> wire::Image {
    wire::Image {
        name: image.name,
        labels: image.labels,
        target: Some(api::to_wire::descriptor(&image.target)),
        created_at: Some(api::to_wire::timestamp(image.created)),
        updated_at: Some(api::to_wire::timestamp(image.updated)),
    }
}

fn required(image: Option<wire::Image>) -> Result<wire::Image, Status> {
    image.ok_or_else(|| Status::invalid_argument("image is required: invalid argument"))
}

/// The time that a client sets for reproducible records.
fn moment(time: Option<proto::Timestamp>) -> Result<Option<Timestamp>, Status> {
    let time = time.map(|time| from_wire::timestamp("source_date_epoch", time));
    Ok(time.transpose()?)
}

#[tonic::async_trait]
impl Images for Service {
    async fn get(
        &self,
        request: Request<wire::GetImageRequest>,
    ) -> Result<Response<wire::GetImageResponse>, Status> {
        let view = self.scope.view(request.metadata())?;
        let image = view
            .images()
            .get(&request.get_ref().name)
            .map_err(api::status::of)?;
        Ok(Response::new(wire::GetImageResponse {
            image: Some(image_to(image)),
        }))
    }

    async fn list(
        &self,
        request: Request<wire::ListImagesRequest>,
    ) -> Result<Response<wire::ListImagesResponse>, Status> {
        let view = self.scope.view(request.metadata())?;
        let found = view
            .images()
            .list(&request.get_ref().filters)
            .map_err(api::status::of)?;
        Ok(Response::new(wire::ListImagesResponse {
            images: found.into_iter().map(image_to).collect(),
        }))
    }

    async fn create(
        &self,
        request: Request<wire::CreateImageRequest>,
    ) -> Result<Response<wire::CreateImageResponse>, Status> {
        let view = self.scope.view(request.metadata())?;
        let message = request.into_inner();
        let at = moment(message.source_date_epoch)?;
        let image = required(message.image)?;
        let target = from_wire::descriptor("image.target", image.target)?;
        let image = Image {
            labels: image.labels,
            ..Image::new(image.name, target)
        };
        let created = view
            .images()
            .create(image, at)
            .await
            .map_err(api::status::of)?;
        Ok(Response::new(wire::CreateImageResponse {
            image: Some(image_to(created)),
        }))
    }

    async fn update(
        &self,
        request: Request<wire::UpdateImageRequest>,
    ) -> Result<Response<wire::UpdateImageResponse>, Status> {
        let view = self.scope.view(request.metadata())?;
        let message = request.into_inner();
        let wanted = required(message.image)?;
        let mask = message.update_mask.unwrap_or_default().paths;
        // Go clients send an empty descriptor with a mask that leaves the target alone.
        let target = if mask.is_empty() || mask.iter().any(|path| path.starts_with("target")) {
            from_wire::descriptor("image.target", wanted.target)?
        } else {
            let stored = view.images().get(&wanted.name);
            stored.map_err(api::status::of)?.target
        };
        let image = Image {
            labels: wanted.labels,
            ..Image::new(wanted.name, target)
        };
        let at = moment(message.source_date_epoch)?;
        let updated = view
            .images()
            .update(image, mask, at)
            .await
            .map_err(api::status::of)?;
        Ok(Response::new(wire::UpdateImageResponse {
            image: Some(image_to(updated)),
        }))
    }

    async fn delete(
        &self,
        request: Request<wire::DeleteImageRequest>,
    ) -> Result<Response<()>, Status> {
        let view = self.scope.view(request.metadata())?;
        let message = request.into_inner();
        let target = message
            .target
            .map(|target| from_wire::descriptor("target", Some(target)))
            .transpose()?;
        view.images()
            .delete(&message.name, target.map(|target| target.digest))
            .await
            .map_err(api::status::of)?;
        if message.sync {
            self.scope.db().gc().run().await.map_err(api::status::of)?;
        }
        Ok(Response::new(()))
    }
}
