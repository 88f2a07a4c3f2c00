//! The hooks that Flagger calls: <https://docs.flagger.app/usage/webhooks>. For Flagger, a status of 200 to 202
//! is a yes, and any other one is a no. Here, a no has status 403, with the reason in the body.
//!
//! Argo Rollouts needs no hook: its web provider reads `GET /v1/verdict?trial=HASH`.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Instant};

use axum::{
    Extension,
    body::Body,
    extract::{ConnectInfo, Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use super::{
    Serve,
    access::{Refusal, caller},
    input::{read_json, trial_name},
    trials::Wanted,
};
use crate::messages::message;
use canary_judge::{Decision, Release, Verdict, percent};

/// The body of Flagger's calls.
#[derive(Debug, Deserialize)]
pub(super) struct Call {
    /// The name of the resource `Canary`.
    name: String,
    namespace: String,
    /// The checksum of the new version's specification. Another rollout of the same image has the same one.
    #[serde(default)]
    checksum: String,
    /// What the resource sets for this webhook. Here, `token` counts.
    metadata: Option<BTreeMap<String, String>>,
}

/// The kind of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hook {
    Begin(Begin),
    Ask(Question),
}

/// A call that marks the beginning or end of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    /// `confirm-rollout` has the last rollout's checksum, and `post-rollout` ends a rollout.
    Later,
    /// `pre-rollout` has the checksum of the new rollout.
    Now,
}

/// The question of a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    /// Should the canary be rolled back?
    RollBack,
    /// Should it go on, which means that it should not be rolled back?
    GoOn,
    /// Should it go on, and may it get more traffic, if the call tells the step?
    Step,
    /// Should it be promoted?
    Promote,
}

impl Hook {
    fn named(name: &str) -> Option<Self> {
        match name {
            "confirm-rollout" | "post-rollout" => Some(Self::Begin(Begin::Later)),
            "pre-rollout" => Some(Self::Begin(Begin::Now)),
            "rollback" => Some(Self::Ask(Question::RollBack)),
            "step" => Some(Self::Ask(Question::Step)),
            "rollout" => Some(Self::Ask(Question::GoOn)),
            "promote" => Some(Self::Ask(Question::Promote)),
            _ => None,
        }
    }
}

impl Question {
    fn is_yes(self, decision: &Decision) -> bool {
        let rolls_back = matches!(decision, Decision::RollBack { .. });
        match self {
            Self::RollBack => rolls_back,
            Self::GoOn | Self::Step => !rolls_back,
            Self::Promote => matches!(decision, Decision::Promote { .. }),
        }
    }
}

/// The name of the last rollout's trial of one of Flagger's resources, without the checksum.
pub(super) fn resource(namespace: &str, name: &str) -> Result<String, Refusal> {
    for (key, value) in [("name", name), ("namespace", namespace)] {
        if value.is_empty() || value.contains('/') {
            let error = format!("{key} is {value:?}: want the {key} of a resource Canary");
            return Err(Refusal::new(StatusCode::BAD_REQUEST, error));
        }
    }
    trial_name(format!("flagger/{namespace}/{name}"))
}

impl Call {
    /// The prefix of this resource's trials.
    fn resource(&self) -> Result<String, Refusal> {
        Ok(resource(&self.namespace, &self.name)? + "/")
    }

    /// The name of this rollout's trial.
    fn trial(&self) -> Result<String, Refusal> {
        if self.checksum.is_empty() {
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "checksum is empty or left out"));
        }
        trial_name(self.resource()? + &self.checksum)
    }

    /// What to do about a hold, which ends when the failures end.
    fn way_out(&self, decision: &Decision) -> String {
        let Self { name, namespace, .. } = self;
        match decision {
            Decision::Hold => format!(
                " To forget the failures and begin the trial anew: POST /v1/reset with \
                 {{\"namespace\":\"{namespace}\",\"name\":\"{name}\"}}."
            ),
            _ => String::new(),
        }
    }

    /// The weights that the resource gives to the canary, from 0 to 1, if the hook is to look at `max_share`.
    fn weights(&self) -> Result<Option<Vec<f64>>, Refusal> {
        let Some(text) = self.metadata.as_ref().and_then(|metadata| metadata.get("step")) else {
            return Ok(None);
        };
        let percents: Option<Vec<f64>> = text.split(',').map(|part| part.trim().parse().ok()).collect();
        let is_weights =
            |all: &Vec<f64>| all.is_sorted() && all.iter().all(|percent| (1.0..=100.0).contains(percent));
        let Some(percents) = percents.filter(is_weights) else {
            let error = format!(
                "metadata.step is {text:?}: want the stepWeight of the resource, such as 10, or its stepWeights, such as \
                 1,5,25,50"
            );
            return Err(Refusal::new(StatusCode::BAD_REQUEST, error));
        };
        let percents = match percents[..] {
            [step] => {
                (1..=100).map(|times| f64::from(times) * step).take_while(|weight| *weight <= 100.0).collect()
            }
            _ => percents,
        };
        Ok(Some(percents.into_iter().map(|percent| percent / 100.0).collect()))
    }

    fn token(&self) -> Option<&str> {
        self.metadata.as_ref()?.get("token").map(String::as_str)
    }
}

/// `POST /flagger/HOOK`.
pub(super) async fn flagger(
    State(serve): State<Arc<Serve>>,
    Path(name): Path<String>,
    remote: Option<Extension<ConnectInfo<SocketAddr>>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let hook = Hook::named(&name).ok_or_else(|| {
        let hooks = "rollback, step, promote, rollout, confirm-rollout, pre-rollout and post-rollout";
        Refusal::new(StatusCode::NOT_FOUND, format!("there is no hook {name:?}: the hooks are {hooks}"))
    })?;
    let call: Call = read_json(&headers, body).await?;
    let by = format!("POST /flagger/{name} from {}", caller(remote.map(|remote| remote.0.0)));
    match hook {
        Hook::Begin(begin) => {
            let has_token = serve.access.has_token(&headers, call.token())?;
            serve.begin_rollout(begin, &call, has_token, &by)
        }
        Hook::Ask(question) => {
            let weights = if question == Question::Step { call.weights()? } else { None };
            let verdict = serve.verdict_on_rollout(&call, &by)?;
            let step = weights.map(|weights| serve.next_step(&call, &verdict, &weights)).transpose()?;
            let gap = serve.trials().gap_in(&call.trial()?).map(|gap| format!(" {gap}")).unwrap_or_default();
            let (allows, step) = step.unwrap_or((true, String::new()));
            let is_yes = question.is_yes(&verdict.decision) && allows;
            let status = if is_yes { StatusCode::OK } else { StatusCode::FORBIDDEN };
            let way_out = call.way_out(&verdict.decision);
            Ok((status, format!("{verdict}{gap}{way_out}{step}\n")).into_response())
        }
    }
}

impl Serve {
    fn begin_rollout(
        &self,
        begin: Begin,
        call: &Call,
        has_token: bool,
        by: &str,
    ) -> Result<Response, Refusal> {
        let (resource, trial) = (call.resource()?, call.trial());
        let ended = self.trials().end_rollouts(&resource, has_token, Instant::now());
        let what = if ended {
            "the last rollout is over"
        } else {
            "the last rollout is over once its canary is silent"
        };
        message(format_args!("{}: {what}: {by}", resource.trim_end_matches('/')));
        if begin == Begin::Now {
            self.verdict_on_rollout_named(&trial?, by);
        }
        Ok(if ended {
            "The next trial begins anew.\n"
        } else {
            "The next trial begins anew once this canary has not answered for 30 s, or after a call with the token.\n"
        }
        .into_response())
    }

    /// Whether the canary may get the next of these weights, and why, as a sentence after a space.
    fn next_step(&self, call: &Call, verdict: &Verdict, weights: &[f64]) -> Result<(bool, String), Refusal> {
        let (mut trials, now, id) = (self.trials(), Instant::now(), call.trial()?);
        let (is_given, has_answered, seen) = {
            let wanted = Wanted::Named(id.clone());
            let trial = trials.find(&wanted, now).one.trial();
            let answers = trial.tally().of_release(Release::Canary).requests;
            (trial.given_share().is_some(), answers > 0, trial.seen_share(now).unwrap_or(0.0))
        };
        if is_given {
            let why = " It cannot know whether the next step is too much: its own share of the requests is given, so it \
                       does not see the share of the route.";
            return Ok((false, why.to_owned()));
        }
        if !has_answered {
            let first = percent(weights.first().copied().unwrap_or_default());
            return Ok(if trials.may_take_first_step(&id, now) {
                (
                    true,
                    format!(
                        " The first step gives it {first} of the traffic: without it, nothing can be seen."
                    ),
                )
            } else {
                (false, " The first step was allowed, and the canary has not answered since.".to_owned())
            });
        }
        // what is seen is not exact, so it is the weight that is nearest
        let nearest = |one: &&f64, other: &&f64| (*one - seen).abs().total_cmp(&(*other - seen).abs());
        let weight = weights.iter().min_by(nearest).copied().unwrap_or_default();
        let Some(next) = weights.iter().copied().find(|next| *next > weight) else {
            return Ok((true, format!(" It has about {} of the traffic, its last weight.", percent(weight))));
        };
        let is_allowed = next <= verdict.max_share;
        let most = percent((verdict.max_share * 1000.0).floor() / 1000.0);
        let (has, next) = (percent(weight), percent(next));
        Ok((
            is_allowed,
            if is_allowed {
                format!(" It has about {has} of the traffic, and may have the next step, {next}.")
            } else {
                format!(" It has about {has} of the traffic, and the next step is {next}: more than {most}.")
            },
        ))
    }

    fn verdict_on_rollout(&self, call: &Call, by: &str) -> Result<Verdict, Refusal> {
        Ok(self.verdict_on_rollout_named(&call.trial()?, by))
    }

    fn verdict_on_rollout_named(&self, id: &str, by: &str) -> Verdict {
        let (verdict, anew) = self.trials().ask_for_rollout(id, Instant::now());
        if anew {
            message(format_args!("trial {id} begins anew, because its last rollout is over: {by}"));
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use canary_judge::{Basis, Counts, Evidence, Reason};

    #[test]
    fn a_hook_says_yes_to_these_decisions() {
        let none = Counts::default();
        let clear_after = Evidence {
            canary: none,
            stable: none,
            unattributed: 0,
            by_limit: Basis::default(),
            warm_up: None,
        };
        let promote = Decision::Promote { reason: Reason::Limit, clear_after };
        let decisions = [promote, Decision::RollBack { clear_after }, Decision::NotYet, Decision::Hold];
        for (name, expected) in [
            ("rollback", [false, true, false, false]),
            ("step", [true, false, true, true]),
            ("rollout", [true, false, true, true]),
            ("promote", [true, false, false, false]),
        ] {
            let Some(Hook::Ask(question)) = Hook::named(name) else { panic!("{name} asks") };
            assert_eq!(decisions.map(|decision| question.is_yes(&decision)), expected, "{name}");
        }
        assert_eq!(Hook::named("event"), None);
    }
}
