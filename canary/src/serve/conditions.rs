//! What a person changes in a rehearsal: the canary's share, faults and delay, the rate of requests, and an incident.

use std::ops::RangeInclusive;

use axum::http::StatusCode;
use serde::Deserialize;

use super::access::Refusal;
use crate::view::page::{Canary, Conditions, Progress};

/// The canary's share, in per cent. With none, or with all requests, there would be nothing to compare.
const SHARE: RangeInclusive<f64> = 1.0..=99.0;
/// Its requests that fail, in per cent.
const FAILS: RangeInclusive<f64> = 0.0..=100.0;
/// In milliseconds, well below the time limit of an answer.
const DELAY_MS: RangeInclusive<f64> = 0.0..=1000.0;
/// Requests a second. All of it runs on one laptop.
const RATE: RangeInclusive<f64> = 1.0..=200.0;

/// The key `conditions` of `POST /v1/rehearsal`: what is to change. The rest stays as it is.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    share: Option<f64>,
    fails: Option<f64>,
    delay_ms: Option<f64>,
    rate: Option<f64>,
    incident: Option<bool>,
    /// Whether all but the rate is as in the step again, before these changes.
    #[serde(default)]
    as_in_step: bool,
}

impl Wanted {
    /// The conditions after the change.
    ///
    /// # Errors
    /// If a value is out of bounds, or cannot be changed now.
    pub(super) fn of(&self, progress: &Progress) -> Result<Conditions, Refusal> {
        let conflict = |error: String| Err(Refusal::new(StatusCode::CONFLICT, error));
        let Progress { number, under_way, conditions: now, of_step, .. } = *progress;
        within("share", self.share, &SHARE, "per cent")?;
        within("fails", self.fails, &FAILS, "per cent")?;
        within("delay_ms", self.delay_ms, &DELAY_MS, "milliseconds")?;
        within("rate", self.rate, &RATE, "requests a second")?;
        if now.canary == Canary::Mystery {
            return conflict("in a mystery, nobody changes anything".to_owned());
        }
        if number == 0 {
            return conflict("nothing is deployed yet: take the first step".to_owned());
        }
        if under_way {
            return conflict(format!("step {number} is under way: wait for its end"));
        }
        let of_canary = self.share.or(self.fails).or(self.delay_ms).is_some();
        match now.canary {
            Canary::None if of_canary => return conflict("there is no canary in this step".to_owned()),
            Canary::Broken if self.fails.is_some() => {
                return conflict("this canary fails every request, whatever is set".to_owned());
            }
            _ => {}
        }
        let before = if self.as_in_step { Conditions { rate: now.rate, ..of_step } } else { now };
        Ok(Conditions {
            share: self.share.or(before.share),
            fails: self.fails.unwrap_or(before.fails),
            delay_ms: self.delay_ms.unwrap_or(before.delay_ms),
            rate: self.rate.unwrap_or(before.rate),
            incident: self.incident.unwrap_or(before.incident),
            ..before
        })
    }
}

fn within(key: &str, value: Option<f64>, bounds: &RangeInclusive<f64>, unit: &str) -> Result<(), Refusal> {
    if value.is_none_or(|value| bounds.contains(&value)) {
        return Ok(());
    }
    let (least, most) = (bounds.start(), bounds.end());
    Err(Refusal::new(
        StatusCode::BAD_REQUEST,
        format!("{key}: want a number from {least} to {most} ({unit})"),
    ))
}

/// What has changed, in words.
pub(crate) fn what_changed(before: &Conditions, now: &Conditions) -> String {
    let differ = |of: fn(&Conditions) -> Option<f64>| of(before) != of(now);
    let mut parts = Vec::new();
    if differ(|it| it.share) {
        parts.push(match now.share {
            Some(share) => format!("the canary gets {share} % of the requests"),
            None => "the canary gets its share as in the step".to_owned(),
        });
    }
    if differ(|it| Some(it.fails)) {
        parts.push(format!("the canary fails {} % of its requests", now.fails));
    }
    if differ(|it| Some(it.delay_ms)) {
        parts.push(format!("the canary answers {} ms later", now.delay_ms));
    }
    if differ(|it| Some(it.rate)) {
        parts.push(format!("{} requests a second", now.rate));
    }
    if before.incident != now.incident {
        let told = if now.incident { "an incident hits both sides" } else { "the incident is over" };
        parts.push(told.to_owned());
    }
    format!("A new trial began: {}.", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{serve::rehearsal::tests::before_the_first_step, view::page::asset};

    fn progress(canary: Canary) -> Progress {
        let mut progress = before_the_first_step();
        progress.number = 7;
        progress.of_step = Conditions { canary, fails: 5.0, ..progress.conditions };
        progress.conditions = progress.of_step;
        progress
    }

    fn wanted(json: &str) -> Wanted {
        serde_json::from_str(json).expect("known keys")
    }

    fn refused(json: &str, progress: &Progress) -> String {
        let refusal = wanted(json).of(progress).expect_err(json);
        format!("{refusal:?}")
    }

    #[test]
    fn what_is_not_named_stays_and_the_step_has_its_own_conditions_back() {
        let mut progress = progress(Canary::Fixed);
        let of_step = progress.of_step;
        assert_eq!(wanted("{}").of(&progress), Ok(of_step));
        progress.conditions = wanted(r#"{"share": 10, "incident": true}"#).of(&progress).expect("allowed");
        let changed = Conditions { share: Some(10.0), incident: true, ..of_step };
        assert_eq!(progress.conditions, changed);
        progress.conditions = wanted(r#"{"fails": 0.5, "rate": 80}"#).of(&progress).expect("allowed");
        assert_eq!(progress.conditions, Conditions { fails: 0.5, rate: 80.0, ..changed });
        let back = wanted(r#"{"as_in_step": true}"#).of(&progress);
        assert_eq!(
            back,
            Ok(Conditions { rate: 80.0, ..of_step }),
            "a person sets the rate for the whole lesson"
        );
        let one_again = wanted(r#"{"as_in_step": true, "delay_ms": 300}"#).of(&progress);
        assert_eq!(one_again, Ok(Conditions { rate: 80.0, delay_ms: 300.0, ..of_step }));
    }

    #[test]
    fn each_value_has_bounds_and_the_sliders_of_the_page_have_the_same() {
        let progress = progress(Canary::Fixed);
        let page = String::from_utf8_lossy(asset("/").expect("the page").1);
        for (key, bounds) in [("share", SHARE), ("fails", FAILS), ("delay_ms", DELAY_MS), ("rate", RATE)] {
            let (least, most) = bounds.into_inner();
            for value in [least, most] {
                assert!(wanted(&format!("{{\"{key}\": {value}}}")).of(&progress).is_ok(), "{key} {value}");
            }
            for value in [least - 0.01, most + 0.01, -1.0, 1e300] {
                let error = refused(&format!("{{\"{key}\": {value}}}"), &progress);
                assert!(error.contains(&format!("{key}: want a number from {least} to {most} (")), "{error}");
                assert!(error.contains("status: 400"), "{error}");
            }
            let slider = format!("data-of=\"{key}\" min=\"{least}\" max=\"{most}\"");
            assert!(page.contains(&slider), "{slider}");
        }
        for bad in [r#"{"share": "10"}"#, r#"{"rate": 1e999}"#, r#"{"speed": 1}"#, r#"{"incident": 1}"#] {
            assert!(serde_json::from_str::<Wanted>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_would_have_no_effect_is_refused() {
        let none = progress(Canary::None);
        for of_canary in [r#"{"share": 10}"#, r#"{"fails": 1}"#, r#"{"delay_ms": 1, "rate": 10}"#] {
            assert!(refused(of_canary, &none).contains("there is no canary in this step"), "{of_canary}");
        }
        assert!(wanted(r#"{"rate": 10, "incident": true}"#).of(&none).is_ok());
        let broken = progress(Canary::Broken);
        assert!(refused(r#"{"fails": 1}"#, &broken).contains("fails every request"));
        assert!(wanted(r#"{"share": 10, "delay_ms": 1}"#).of(&broken).is_ok());
        assert!(refused(r#"{"rate": 10}"#, &progress(Canary::Mystery)).contains("in a mystery"));
        let mut under_way = progress(Canary::Fixed);
        under_way.under_way = true;
        assert!(refused(r#"{"rate": 10}"#, &under_way).contains("step 7 is under way"));
        assert!(refused(r#"{"rate": 10}"#, &before_the_first_step()).contains("nothing is deployed yet"));
    }

    #[test]
    fn a_change_is_told_in_words() {
        let before = progress(Canary::Fixed).conditions;
        let now = Conditions { fails: 0.5, rate: 80.0, incident: true, ..before };
        let all = "A new trial began: the canary fails 0.5 % of its requests, 80 requests a second, an incident hits \
                   both sides.";
        assert_eq!(what_changed(&before, &now), all);
        assert_eq!(
            what_changed(&now, &Conditions { incident: false, ..now }),
            "A new trial began: the incident is over."
        );
        let (share, delay_ms) = (Some(10.0), 300.0);
        let other = Conditions { share, delay_ms, ..before };
        let told = what_changed(&before, &other);
        assert_eq!(
            told,
            "A new trial began: the canary gets 10 % of the requests, the canary answers 300 ms later."
        );
        assert!(what_changed(&other, &before).contains("its share as in the step"));
    }
}
