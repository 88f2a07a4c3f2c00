//! What the walkthrough makes in a cluster: what of it is there, and how it is removed.

use std::{collections::BTreeMap, env};

use serde_json::Value;

use crate::measure::{Cluster, eventually, kubectl, listed, name};

/// Kinds that the walkthrough makes, itself or through a controller.
const KINDS: &str =
    "deployments,services,jobs,replicasets,pods,configmaps,serviceaccounts,roles,rolebindings";

/// The objects of one walkthrough.
pub(crate) struct Traces<'a> {
    cluster: &'a Cluster,
    /// The folder that the README calls `$MANIFESTS`, its folder `judge`, and those that only some chapters use.
    folders: Vec<String>,
}

impl<'a> Traces<'a> {
    /// Those of chapters which use these folders, beside `$MANIFESTS`.
    pub(crate) fn of<'b>(cluster: &'a Cluster, folders: impl IntoIterator<Item = &'b str>) -> Self {
        let manifests = env::var("MANIFESTS").ok().filter(|folder| !folder.is_empty());
        let manifests = manifests.unwrap_or_else(|| "deployment".to_owned());
        let mut all = vec![format!("{manifests}/judge"), manifests];
        all.extend(folders.into_iter().map(ToOwned::to_owned));
        Self { cluster, folders: all }
    }

    /// What has one of its names or labels, as `kind/name`, and whether it goes without being deleted: it is
    /// being deleted already, or will be with its owner.
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

    /// Waits until nothing is there any more.
    pub(crate) fn gone(&self) -> Result<(), String> {
        eventually("everything is gone", || Ok(self.found()?.is_empty()))
    }

    /// Waits for what is on its way out, from another run or by the reader's hand.
    ///
    /// # Errors
    /// If something is there to stay: what, and the command that removes it.
    pub(crate) fn none_is_in_the_way(&self) -> Result<(), String> {
        let namespace = &self.cluster.namespace;
        let stays: Vec<_> =
            self.found()?.into_iter().filter(|(_, goes)| !goes).map(|(name, _)| name).collect();
        if stays.is_empty() {
            return self.gone();
        }
        Err(format!(
            "something is in the way in namespace {namespace}, which this run has not made. If you do not need \
             it, remove it:\nkubectl delete -n {namespace} --cascade=foreground {}",
            stays.join(" ")
        ))
    }

    /// The arguments with which kubectl removes what was made, and waits until it is gone.
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
