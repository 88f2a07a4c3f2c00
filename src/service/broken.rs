use super::{AppInfoService, Pod, ServiceError};
use crate::{
    app_info::AppInfo,
    labels::{Labels, LabelsError},
};

/// Version 2, the broken canary. Every request fails with the same error.
#[derive(Clone, Copy, Debug)]
pub struct AppInfoBroken;

impl AppInfoService for AppInfoBroken {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn get_app_info(&self, _: &Pod, _: Result<&Labels, LabelsError>) -> Result<AppInfo, ServiceError> {
        Err(ServiceError::Broken)
    }
}
