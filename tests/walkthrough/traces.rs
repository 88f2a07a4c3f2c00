//! The objects that the walkthrough creates in the cluster: finds and removes them.

use std::{collections::BTreeMap, env};

use serde_json::Value;

use crate::measure::{Cluster, eventually, kubectl, listed, name};

/// The kinds of objects that the walkthrough creates, directly or by a controller.
const KINDS: &str =
    "deployments,services,jobs,replicasets,pods,configmaps,serviceaccounts,roles,rolebindings";

/// The objects of one walkthrough.
pub(crate) struct Traces<'a> {
    cluster: &'a Cluster,
    /// The README's `$MANIFESTS`, its subfolder `judge`, and the folders that only some documents use.
    folders: Vec<String>,
}

impl<'a> Traces<'a> {
    /// The objects of documents that use these folders besides `$MANIFESTS`.
    pub(crate) fn of<'b>(cluster: &'a Cluster, folders: impl IntoIterator<Item = &'b str>) -> Self {
        let manifests = env::var("MANIFESTS").ok().filter(|folder| !folder.is_empty());
        let manifests = manifests.unwrap_or_else(|| "deployment".to_owned());
        let mut all = vec![format!("{manifests}/judge"), manifests];
        all.extend(folders.into_iter().map(ToOwned::to_owned));
        Self { cluster, folders: all }
    }

    /// The objects with one of these names or labels, as `kind/name`. The value is true if the object is being deleted,
    /// or will be deleted with its owner.
    fn found(&self) -> Result<BTreeMap<String, bool>, String> {
        let (namespace, labels) = (&self.cluster.namespace, "app in (appinfo, judge, monitoring)");
        let mut get = vec!["get", "-n", namespace, "--ignore-not-found", "-o", "json"];
        get.extend(self.files());
        let named = listed(&get)?;
        let labelled = listed(&["get", KINDS, "-n", namespace, "-l", labels, "-o", "json"])?;
        let describe = |object: &Value| {
            let (kind, metadata) = (object["kind"].as_str().unwrap_or_default(), &object["metadata"]);
            let goes = !metadata["deletionTimestamp"].is_null() || !metadata["ownerReferences"].is_null();
            (format!("{}/{}", kind.to_lowercase(), name(object)), goes)
        };
        Ok(named.iter().chain(&labelled).map(describe).collect())
    }

    fn files(&self) -> impl Iterator<Item = &str> {
        self.folders.iter().flat_map(|folder| ["-f", folder])
    }

    /// Waits until all of these objects are gone.
    pub(crate) fn gone(&self) -> Result<(), String> {
        eventually("everything is gone", || Ok(self.found()?.is_empty()))
    }

    /// Waits for objects that are being deleted, such as those of an earlier run.
    ///
    /// # Errors
    /// If there are objects that are not being deleted. The message names them, and the command that removes them.
    pub(crate) fn none_is_in_the_way(&self) -> Result<(), String> {
        let namespace = &self.cluster.namespace;
        let stays: Vec<_> =
            self.found()?.into_iter().filter(|(_, goes)| !goes).map(|(name, _)| name).collect();
        if stays.is_empty() {
            return self.gone();
        }
        Err(format!(
            "the namespace {namespace} already has objects of the same names or labels. If you do not need them, \
             remove them:\nkubectl delete -n {namespace} --cascade=foreground {}",
            stays.join(" ")
        ))
    }

    /// The arguments of the kubectl command that removes the objects, and waits until they are gone.
    fn removal(&self) -> Vec<&str> {
        let mut arguments =
            vec!["delete", "-n", &self.cluster.namespace, "--ignore-not-found", "--cascade=foreground"];
        arguments.extend(self.files());
        arguments
    }

    pub(crate) fn removal_command(&self) -> String {
        format!("kubectl {}", self.removal().join(" "))
    }

    pub(crate) fn remove(&self) -> Result<(), String> {
        kubectl(&self.removal()).map(drop)
    }
}
