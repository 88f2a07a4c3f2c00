use super::{AppInfoService, Pod, ServiceError};
use crate::{
    app_info::AppInfo,
    labels::{Labels, LabelsError},
};

/// Version 1, the stable release. It works, but leaves the namespace empty.
#[derive(Clone, Copy, Debug)]
pub struct AppInfoBaseline;

impl AppInfoService for AppInfoBaseline {
    fn name(&self) -> &'static str {
        "baseline"
    }

    fn get_app_info(&self, pod: &Pod, labels: Result<&Labels, LabelsError>) -> Result<AppInfo, ServiceError> {
        Ok(AppInfo::new(&pod.name, "", labels?))
    }
}
