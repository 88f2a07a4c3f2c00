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

/// The identity of the pod, as its manifest passes it to the process.
#[derive(Debug)]
pub struct Pod {
    /// `metadata.name`; empty if it is not known.
    pub name: String,
    /// `metadata.namespace`; empty if it is not known.
    pub namespace: String,
    /// `metadata.labels`, as a file of a downward-API volume.
    pub label_file: LabelFile,
}

/// An implementation of the service: it describes the pod.
pub trait AppInfoService: Send + Sync {
    /// The implementation's name, which is also the name of the feature that selects it.
    fn name(&self) -> &'static str;

    /// Describes `pod`. `labels` is one reading of [`Pod::label_file`]; the caller reads it, so that the answer's
    /// headers and body agree. The result must depend on the two arguments only, because the caller caches it for
    /// as long as they are the same.
    ///
    /// # Errors
    /// Each implementation decides. One that needs no labels may ignore that they cannot be read.
    fn get_app_info(&self, pod: &Pod, labels: Result<&Labels, LabelsError>) -> Result<AppInfo, ServiceError>;
}

/// Why a service cannot describe its pod.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The pod's labels cannot be read.
    #[error(transparent)]
    Labels(#[from] LabelsError),
    /// The failure of version 2.
    #[error("something went wrong")]
    Broken,
}

/// The implementation that this build serves: the newest one whose feature is enabled; the baseline by default.
pub fn selected() -> Box<dyn AppInfoService> {
    if cfg!(feature = "with-namespace") {
        Box::new(AppInfoWithNamespace)
    } else if cfg!(feature = "broken") {
        Box::new(AppInfoBroken)
    } else {
        Box::new(AppInfoBaseline)
    }
}
