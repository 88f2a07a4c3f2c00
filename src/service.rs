//! The trait behind `/v1/appinfo`, and the choice of its implementation.

mod baseline;
mod broken;
mod with_namespace;

pub use baseline::AppInfoBaseline;
pub use broken::AppInfoBroken;
pub use with_namespace::AppInfoWithNamespace;

use crate::{
    app_info::AppInfo,
    labels::{LabelFile, Labels, LabelsError},
};

/// Who the pod is: what its manifest hands to the process.
#[derive(Debug)]
pub struct Pod {
    /// `metadata.name`; empty where nobody said it.
    pub name: String,
    /// `metadata.namespace`; empty where nobody said it.
    pub namespace: String,
    /// `metadata.labels`, as a file of a downward-API volume.
    pub label_file: LabelFile,
}

/// Answers which pod this is.
pub trait AppInfoService: Send + Sync {
    /// What the implementation is called: the feature that selects it.
    fn name(&self) -> &'static str;

    /// Describes `pod`, whose labels are as `labels` says: one reading of [`Pod::label_file`], taken by the
    /// caller, so that all it tells about one request agrees. The answer must follow from these two alone: it
    /// is kept for as long as they are the same.
    ///
    /// # Errors
    /// As the implementation sees fit: one that needs no labels need not mind that they cannot be read.
    fn get_app_info(&self, pod: &Pod, labels: Result<&Labels, LabelsError>) -> Result<AppInfo, ServiceError>;
}

/// Why there is no [`AppInfo`].
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The pod's labels are not known.
    #[error(transparent)]
    Labels(#[from] LabelsError),
    /// The fault the broken canary was built with.
    #[error("something went wrong")]
    Broken,
}

/// The implementation this build was made for: the newest whose feature is enabled, the baseline if none is.
pub fn selected() -> Box<dyn AppInfoService> {
    if cfg!(feature = "with-namespace") {
        Box::new(AppInfoWithNamespace)
    } else if cfg!(feature = "broken") {
        Box::new(AppInfoBroken)
    } else {
        Box::new(AppInfoBaseline)
    }
}
