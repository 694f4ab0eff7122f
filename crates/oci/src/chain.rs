//! Build, adjust, validate.

use spec::image::ContainerConfig;
use spec::runtime::Spec;

use crate::{Error, Options, apply_image, apply_options, defaults, validate};

/// A specification in the making; each step sees what the steps before it made.
#[derive(Debug, Clone)]
pub struct Chain {
    spec: Spec,
}

impl Chain {
    /// Starts from the defaults for a container of a namespace.
    pub fn new(namespace: &str, id: &str) -> Self {
        Self {
            spec: defaults(namespace, id),
        }
    }

    /// Starts from a specification that somebody else made.
    pub fn from_spec(spec: Spec) -> Self {
        Self { spec }
    }

    /// Takes arguments, environment and working folder from an image; `args` replace the image's `Cmd`.
    #[must_use]
    pub fn image(mut self, config: &ContainerConfig, args: &[String]) -> Self {
        apply_image(&mut self.spec, config, args);
        self
    }

    /// Applies options.
    pub fn options(mut self, options: &Options) -> Result<Self, Error> {
        apply_options(&mut self.spec, options)?;
        Ok(self)
    }

    /// Runs any other step.
    pub fn adjust(
        mut self,
        step: impl FnOnce(&mut Spec) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        step(&mut self.spec)?;
        Ok(self)
    }

    /// Checks the whole and gives it out.
    pub fn finish(self) -> Result<Spec, Error> {
        validate(&self.spec)?;
        Ok(self.spec)
    }
}
