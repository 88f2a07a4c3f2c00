use super::{AppInfoService, Pod, ServiceError};
use crate::{
    app_info::AppInfo,
    labels::{Labels, LabelsError},
};

/// Version 3, the canary that is promoted. It includes the namespace.
#[derive(Clone, Copy, Debug)]
pub struct AppInfoWithNamespace;

impl AppInfoService for AppInfoWithNamespace {
    fn name(&self) -> &'static str {
        "with-namespace"
    }

    fn get_app_info(&self, pod: &Pod, labels: Result<&Labels, LabelsError>) -> Result<AppInfo, ServiceError> {
        Ok(AppInfo::new(&pod.name, &pod.namespace, labels?))
    }
}
