//! The answer of the service: it describes the pod that answered.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::labels::Labels;

/// The answer of `/v1/appinfo`. Its JSON has the fields in this order, with the names of the Go original:
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
    /// The pod's label `app`; empty if it has none.
    pub app_name: String,
    /// The pod's namespace; empty if the implementation leaves it out.
    pub namespace: String,
    /// The pod's label `release`; empty if it has none.
    pub release: String,
    /// All other labels, sorted by key.
    pub labels: BTreeMap<String, String>,
}

impl AppInfo {
    /// Describes the pod with this name, namespace and labels.
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
