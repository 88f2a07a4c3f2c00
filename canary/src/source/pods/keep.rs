//! Keeps the pods up to date: a list, and then a watch, which tells at once when a pod is to be deleted.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use canary_judge::Release;
use form_urlencoded::Serializer;
use tokio::{
    sync::mpsc::WeakSender,
    time::{interval, sleep, timeout},
};

use super::{
    Shared,
    api::{Api, ApiError},
    lock,
    objects::{Event, List, Object, Pod},
    workload::{Kind, Rule, Selector, Workload},
};
use crate::source::Seen;

/// A watch ends after this time, and a new list begins.
const WATCH: Duration = Duration::from_secs(60);
/// The time between two attempts to read the list.
const AGAIN: Duration = Duration::from_secs(2);
/// A watch that ends sooner is not followed by a list at once: something on the way may end each watch.
const SHORT: Duration = Duration::from_secs(1);
/// The number of pods that are read at once, so that a list may have any length.
const PAGE: &str = "500";
/// The most pods of a list.
const MOST_PODS: usize = 20_000;
/// How often a Rollout is read: its hashes change when a new canary begins.
const ROLLOUT_EVERY: Duration = Duration::from_secs(2);
/// How often it is looked at whether a release has a pod that is asked.
const LOOK: Duration = Duration::from_secs(1);
/// A trouble is told after it has lasted for this many looks. A new pod takes some time to be ready.
const LASTING: u32 = 5;

/// A list of pods, and to which release they belong.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) selector: Selector,
    pub(super) rule: Rule,
    /// If the rule has the hashes of a Rollout: where they are read.
    pub(super) rollout: Option<Workload>,
}

/// What the tasks need.
#[derive(Clone)]
pub(super) struct Keeper {
    pub(super) api: Arc<Api>,
    pub(super) namespace: String,
    pub(super) rule: String,
    pub(super) roster: Shared,
    /// Does not keep the source alive: it ends with its last request.
    pub(super) seen: WeakSender<Seen>,
}

impl Keeper {
    fn path(&self, listed: &Listed, more: &[(&str, &str)]) -> String {
        let mut query = Serializer::new(String::new());
        query.append_pair("labelSelector", &listed.selector.to_string()).extend_pairs(more);
        format!("/api/v1/namespaces/{}/pods?{}", self.namespace, query.finish())
    }

    /// Reads a list. Returns the version from which a watch goes on.
    pub(super) async fn list(&self, number: usize, listed: &Listed) -> Result<String, ApiError> {
        let (mut items, mut version, mut next) = (Vec::new(), String::new(), String::new());
        loop {
            let page: [(&str, &str); 2] = [("limit", PAGE), ("continue", &next)];
            let page = if next.is_empty() { &page[..1] } else { &page[..] };
            let pods: List<Pod> = self.api.get(&self.path(listed, page)).await?;
            items.extend(pods.items.unwrap_or_default());
            if items.len() > MOST_PODS {
                return Err(ApiError::Unreadable(format!("more than {MOST_PODS} pods")));
            }
            // the version of the list is that of its first page
            if version.is_empty() {
                version = pods.metadata.resource_version;
            }
            next = pods.metadata.next;
            if next.is_empty() {
                break;
            }
        }
        lock(&self.roster).replace(number, &items, &listed.rule, Instant::now());
        Ok(version)
    }

    /// Keeps one list up to date until the source is gone.
    pub(super) async fn keep(self, number: usize, mut listed: Listed, mut version: String) {
        let mut told = None;
        loop {
            let began = Instant::now();
            let watched = self.watch(number, &mut listed, &version).await;
            // also without a watch, the list is read
            let again = self.list(number, &listed).await;
            let error = watched.err().or(again.as_ref().err().cloned()).map(|error| error.text(&self.rule));
            if let Ok(new) = again {
                version = new;
            }
            if error.is_none() {
                told = None;
            }
            self.tell_health().await;
            if let Some(error) = error {
                if told.as_ref() != Some(&error) {
                    told = Some(error.clone());
                    self.tell(Seen::Trouble(error)).await;
                }
                sleep(AGAIN).await;
            } else if began.elapsed() < SHORT {
                sleep(SHORT).await;
            }
            if self.seen.strong_count() == 0 {
                return;
            }
        }
    }

    /// Watches until a new list is due.
    async fn watch(&self, number: usize, listed: &mut Listed, version: &str) -> Result<(), ApiError> {
        let seconds = WATCH.as_secs().to_string();
        let more = [("watch", "1"), ("resourceVersion", version), ("timeoutSeconds", &seconds)];
        let mut watch = self.api.watch(&self.path(listed, &more)).await?;
        let mut rollout = interval(ROLLOUT_EVERY);
        loop {
            tokio::select! {
                event = timeout(2 * WATCH, watch.next::<Event>()) => {
                    let Ok(Some(event)) = event else { return Ok(()) };
                    if event.kind == "ERROR" || !self.take(number, listed, event) {
                        return Ok(());
                    }
                    self.tell_health().await;
                }
                _ = rollout.tick(), if listed.rollout.is_some() => {
                    if let Some(workload) = &listed.rollout {
                        let rule = hashes(workload, &self.api.get(&workload.path(&self.namespace)).await?);
                        if rule != listed.rule {
                            listed.rule = rule;
                            return Ok(());
                        }
                    }
                }
            }
        }
    }

    /// Takes in an event; `false` if it cannot be read.
    fn take(&self, number: usize, listed: &Listed, event: Event) -> bool {
        let Ok(pod) = serde_json::from_value::<Pod>(event.object) else { return false };
        let mut roster = lock(&self.roster);
        match event.kind.as_str() {
            "ADDED" | "MODIFIED" => roster.update(number, &pod, &listed.rule, Instant::now()),
            "DELETED" => roster.remove(number, &pod.metadata.uid),
            _ => {}
        }
        true
    }

    async fn tell(&self, seen: Seen) {
        if let Some(sender) = self.seen.upgrade() {
            let _ = sender.send(seen).await; // the receiver may be gone
        }
    }

    pub(super) async fn tell_health(&self) {
        let health = lock(&self.roster).health(Instant::now());
        if let Some(health) = health {
            self.tell(Seen::Health(health)).await;
        }
    }

    /// Tells if a release has no pod that is asked for some time, and why.
    pub(super) async fn look(self, names: [String; 2]) {
        let mut looks = interval(LOOK);
        let mut lasting: [Lasting; 2] = Default::default();
        while self.seen.strong_count() > 0 {
            looks.tick().await;
            for ((release, name), lasting) in Release::BOTH.into_iter().zip(&names).zip(&mut lasting) {
                let trouble = lock(&self.roster).trouble(release);
                if let Some(why) = lasting.look(trouble) {
                    let text = format!("no request goes to the {release} release, {name}: {why}");
                    self.tell(Seen::Trouble(text)).await;
                }
            }
        }
    }
}

/// How long a release has had no pod that is asked, counted in looks after the first one.
#[derive(Default)]
struct Lasting {
    /// For any reason.
    looks: u32,
    /// For the reason of the last look.
    same: u32,
    reason: Option<String>,
    told: Option<String>,
}

impl Lasting {
    /// Takes in a look. Returns the reason if it is time to tell it: once no pod has been asked for long enough, for whatever
    /// reasons, because a pod that starts or crashes has another one every second; and then each other reason that lasts.
    fn look(&mut self, trouble: Option<String>) -> Option<&str> {
        let Some(trouble) = trouble else {
            *self = Self::default();
            return None;
        };
        if let Some(last) = &self.reason {
            self.looks += 1;
            self.same = if *last == trouble { self.same + 1 } else { 0 };
        }
        let reason = self.reason.insert(trouble);
        let is_news = self.same == LASTING && self.told.as_ref() != Some(reason);
        if self.looks != LASTING && !is_news {
            return None;
        }
        Some(self.told.insert(reason.clone()))
    }
}

/// The rule of a Rollout.
pub(super) fn hashes(workload: &Workload, rollout: &Object) -> Rule {
    debug_assert_eq!(workload.kind, Kind::Rollout, "only a Rollout has hashes");
    Rule::Hashes {
        rollout: workload.name.clone(),
        stable: rollout.status.stable_rs.clone(),
        canary: rollout.status.current_pod_hash.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told, look by look, of these reasons; `""` where a pod is asked.
    fn told<'a>(reasons: impl IntoIterator<Item = &'a str>) -> Vec<(usize, String)> {
        let mut lasting = Lasting::default();
        let looks = reasons.into_iter().enumerate().filter_map(|(look, reason)| {
            let trouble = (!reason.is_empty()).then(|| reason.to_owned());
            Some((look, lasting.look(trouble)?.to_owned()))
        });
        looks.collect()
    }

    #[test]
    fn a_trouble_is_told_once_after_five_seconds() {
        assert_eq!(told(["not ready"; 100]), [(5, "not ready".to_owned())]);
        assert_eq!(told(["not ready"; 5]), []);
    }

    #[test]
    fn a_trouble_whose_reason_changes_all_the_time_is_told_as_well() {
        let starts =
            ["not ready", "ContainerCreating", "ContainerCreating", "ContainerCreating", "not ready"];
        let then = ["not ready"; 20];
        assert_eq!(told(starts.into_iter().chain(then)), [(5, "not ready".to_owned())]);
        let crashes = ["not ready", "Error", "CrashLoopBackOff"].into_iter().cycle().take(100);
        assert_eq!(told(crashes), [(5, "CrashLoopBackOff".to_owned())]);
    }

    #[test]
    fn another_reason_is_told_when_it_has_lasted_as_long() {
        let reasons = ["not ready"; 10].into_iter().chain(["ImagePullBackOff"; 10]).chain(["not ready"; 3]);
        assert_eq!(told(reasons), [(5, "not ready".to_owned()), (15, "ImagePullBackOff".to_owned())]);
    }

    #[test]
    fn a_trouble_that_comes_again_is_told_again() {
        let reasons = ["not ready"; 6].into_iter().chain([""]).chain(["not ready"; 6]);
        assert_eq!(told(reasons), [(5, "not ready".to_owned()), (12, "not ready".to_owned())]);
    }
}
