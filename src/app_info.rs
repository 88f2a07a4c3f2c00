//! What the service says: which pod answered.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::labels::Labels;

/// The answer of `/v1/appinfo`. Its JSON has the fields in this order, named as the Go original named them:
///
/// ```
/// # use appinfo::{app_info::AppInfo, labels::Labels};
/// let labels = Labels::parse(b"app=\"appinfo\"\npod-template-hash=\"1236545534\"\nrelease=\"stable\"");
/// let info = AppInfo::new("appinfo-567b989978-vvzlg", "", &labels);
/// assert_eq!(
///     serde_json::to_string(&info).unwrap(),
///     r#"{"PodName":"appinfo-567b989978-vvzlg","AppName":"appinfo","Namespace":"","Release":"stable","Labels":{"pod-template-hash":"1236545534"}}"#,
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AppInfo {
    /// The pod's name.
    pub pod_name: String,
    /// The pod's label `app`; empty where it has none.
    pub app_name: String,
    /// The namespace the pod runs in; empty where the implementation does not tell it.
    pub namespace: String,
    /// The pod's label `release`; empty where it has none.
    pub release: String,
    /// Every other label, sorted by key.
    pub labels: BTreeMap<String, String>,
}

impl AppInfo {
    /// Describes the pod of that name, namespace and labels.
    pub fn new(pod_name: &str, namespace: &str, labels: &Labels) -> Self {
        let mut labels = labels.as_map().clone();
        Self {
            pod_name: pod_name.to_owned(),
            app_name: labels.remove("app").unwrap_or_default(),
            namespace: namespace.to_owned(),
            release: labels.remove("release").unwrap_or_default(),
            labels,
        }
    }
}
