//! The steps of the walkthrough in README.md, and one of docs/gateway.md.

use std::{io, time::Duration};

use super::{
    Faults,
    cluster::{CANARY_BROKEN, CANARY_FIXED, Cluster, Manifest, PROMOTED, STABLE},
};

/// A step of the walkthrough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Deploy,
    Scale,
    Relabel,
    BrokenCanary,
    RollBack,
    FixedCanary,
    FaultyCanary,
    FaultOver,
    FollowEvidence,
    Promote,
    CleanUp,
}

/// The label that a pod gets in [`Step::Relabel`].
pub(super) const NEW_LABEL: (&str, &str) = ("newlabel", "realtime");
/// The number of stable pods from [`Step::Scale`] on.
pub(super) const REPLICAS: usize = 3;
/// The canary's share at the beginning of [`Step::FollowEvidence`], as in `deployment/gateway/route.yaml`.
pub(super) const FIRST_SHARE: f64 = 0.01;
/// The time between two changes of the weights in [`Step::FollowEvidence`].
pub(super) const FOLLOWED_EVERY: Duration = Duration::from_secs(1);

impl Step {
    /// All of them, in order.
    pub(super) const ALL: [Self; 11] = [
        Self::Deploy,
        Self::Scale,
        Self::Relabel,
        Self::BrokenCanary,
        Self::RollBack,
        Self::FixedCanary,
        Self::FaultyCanary,
        Self::FaultOver,
        Self::FollowEvidence,
        Self::Promote,
        Self::CleanUp,
    ];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Deploy => "Deploy",
            Self::Scale => "Scale",
            Self::Relabel => "Change a label",
            Self::BrokenCanary => "Deploy the broken canary",
            Self::RollBack => "Roll back",
            Self::FixedCanary => "Deploy the fixed canary",
            Self::FaultyCanary => "Make some requests fail",
            Self::FaultOver => "End the fault",
            Self::FollowEvidence => "Follow the evidence",
            Self::Promote => "Promote it",
            Self::CleanUp => "Clean up the canary",
        }
    }

    /// The commands that do the same on a cluster.
    pub(super) fn commands(self, cluster: &Cluster) -> Vec<String> {
        let (label, value) = NEW_LABEL;
        match self {
            Self::Deploy => vec![
                "kubectl create -f deployment/appinfo.yaml".to_owned(),
                "kubectl create -f deployment/appinfo-service.yaml".to_owned(),
            ],
            Self::Scale => vec![format!("kubectl scale --replicas={REPLICAS} deployment/appinfo")],
            Self::Relabel => {
                let pod = cluster.first_stable().map_or("$POD_NAME", |pod| pod.name.as_str());
                vec![format!("kubectl label pods {pod} {label}={value}")]
            }
            Self::BrokenCanary => vec!["kubectl create -f deployment/canary-broken.yaml".to_owned()],
            Self::RollBack => vec!["kubectl delete -f deployment/canary-broken.yaml".to_owned()],
            Self::FixedCanary => vec!["kubectl create -f deployment/canary-fixed.yaml".to_owned()],
            Self::FaultyCanary => {
                let labels = cluster.faults.labels().into_iter();
                vec![labels.fold("kubectl label pods -l canary=fixed".to_owned(), |command, (key, value)| {
                    format!("{command} {key}={value}")
                })]
            }
            Self::FaultOver => {
                let labels = cluster.faults.labels().into_iter();
                vec![labels.fold("kubectl label pods -l canary=fixed".to_owned(), |command, (key, _)| {
                    format!("{command} {key}-")
                })]
            }
            Self::FollowEvidence => vec![
                "kubectl create -f deployment/gateway/".to_owned(),
                "follow fixed # a loop in docs/gateway.md".to_owned(),
            ],
            Self::Promote => vec![
                "kubectl set image deployment/appinfo appinfo-containers=runyonsolutions/appinfo:3"
                    .to_owned(),
            ],
            Self::CleanUp => vec!["kubectl delete -f deployment/canary-fixed.yaml".to_owned()],
        }
    }

    /// What happens in this step, and what to watch for. It does not tell the result: the class is to find it.
    pub(super) fn what_to_see(self) -> &'static str {
        match self {
            Self::Deploy => "One pod of stable gets all requests. Which part of its answers is missing?",
            Self::Scale => "Two more pods of stable start. Which share would one canary get beside them?",
            Self::Relabel => "The pod is not restarted. When do its answers tell the new label?",
            Self::BrokenCanary => {
                "A new version starts, and Kubernetes says that it is ready. Watch its answers."
            }
            Self::RollBack => {
                "The canary is deleted while requests go on. Watch for requests without an answer."
            }
            Self::FixedCanary => "Another version starts. How many good answers does it take to trust it?",
            Self::FaultyCanary => "A label makes the canary fail or answer late. When would you stop it?",
            Self::FaultOver => {
                "The label is removed, and the judge begins anew: the canary behaves otherwise now."
            }
            Self::FollowEvidence => {
                "The canary begins again, with 1 % of the requests. How soon may it have more?"
            }
            Self::Promote => "Pod by pod, stable gets its image while requests go on. Is any request lost?",
            Self::CleanUp => "The canary is deleted: stable has its image now. What do the answers tell?",
        }
    }

    /// Whether a new canary begins its trial, or the same one changes its behaviour. Then earlier requests must
    /// not count.
    pub(super) fn begins_a_trial(self) -> bool {
        matches!(self, Self::BrokenCanary | Self::FixedCanary) || self.changes().is_some()
    }

    /// The canary that changes its behaviour in this step and stays the same version, or that is judged from the beginning
    /// again.
    pub(super) fn changes(self) -> Option<Manifest> {
        matches!(self, Self::FaultyCanary | Self::FaultOver | Self::FollowEvidence).then_some(CANARY_FIXED)
    }

    /// The canary whose share of the requests follows the evidence after this step, until the next one.
    pub(super) fn follows(self) -> Option<Manifest> {
        (self == Self::FollowEvidence).then_some(CANARY_FIXED)
    }

    /// Whether pods end, which clients must not notice.
    pub(super) fn ends_pods(self) -> bool {
        matches!(self, Self::RollBack | Self::Promote | Self::CleanUp)
    }

    /// The canary's faults after it.
    pub(super) fn faults(self, cluster: &Cluster) -> Faults {
        if self == Self::FaultyCanary { cluster.faults } else { Faults { percent: 0.0, delay_ms: 0.0 } }
    }

    /// The canary's share of new connections at its beginning, from 0 to 1; `None` if each pod gets as many.
    pub(super) fn share(self) -> Option<f64> {
        self.follows().map(|_| FIRST_SHARE)
    }

    /// Takes the step. Returns when new pods are ready and ending pods have ended.
    pub(super) async fn apply(self, cluster: &mut Cluster) -> io::Result<()> {
        cluster.set_canary_share(self.share());
        match self {
            Self::Deploy => cluster.scale(STABLE, 1).await,
            Self::Scale => cluster.scale(STABLE, REPLICAS).await,
            Self::Relabel => cluster.label_first_stable(NEW_LABEL.0, NEW_LABEL.1),
            Self::BrokenCanary => cluster.scale(CANARY_BROKEN, 1).await,
            Self::RollBack => cluster.delete(CANARY_BROKEN).await,
            Self::FixedCanary => cluster.scale(CANARY_FIXED, 1).await,
            Self::FaultyCanary => cluster.label_faults(CANARY_FIXED, Some(cluster.faults)),
            Self::FaultOver => cluster.label_faults(CANARY_FIXED, None),
            Self::FollowEvidence => Ok(()), // its share is all that changes
            Self::Promote => cluster.roll(PROMOTED).await,
            Self::CleanUp => cluster.delete(CANARY_FIXED).await,
        }
    }
}
