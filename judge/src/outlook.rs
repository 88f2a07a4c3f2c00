//! What the traffic can show in some time, before there is any answer.

use std::time::Duration;

use crate::{
    Counts, alpha,
    by_limit::{FORESIGHT, UpperBound},
    real,
    sentences::{count, percent, percent_rounded},
    settings::Settings,
};

/// The share that is assumed if it is not known: one canary pod beside three pods of stable.
const ASSUMED_SHARE: f64 = 0.25;

impl Settings {
    /// The failure rate that a canary is shown not to exceed, if all of this many answers succeed.
    pub fn bound_after(&self, answers: u64) -> f64 {
        let seen = Counts { requests: answers, ..Counts::default() };
        UpperBound::new(alpha::LIMIT * self.alpha.get()).bound([seen])
    }

    /// The number of answers of the canary until a promotion by the limit, if all of them succeed; `None` if it is more than
    /// 100,000.
    pub fn answers_until_promotion(&self) -> Option<u64> {
        let bound = UpperBound::new(alpha::LIMIT * self.alpha.get());
        bound.successes_until_within([Counts::default()], self.max_failure_rate.get(), FORESIGHT)
    }

    /// What `rate` requests a second show in this `time`, if the canary gets this share of them, from 0 to 1, and fails
    /// none. In words, without a full stop. If the share is not known, it is assumed to be a quarter.
    pub fn outlook(&self, rate: f64, share: Option<f64>, time: Option<Duration>) -> String {
        let limit = percent(self.max_failure_rate.get());
        let part = part(share.unwrap_or(ASSUMED_SHARE));
        let traffic = match share {
            Some(_) => format!("at {}, {part} of them the canary's, and none that fails", requests(rate)),
            None => format!("at {}, if {part} of them go to the canary and none fails", requests(rate)),
        };
        let share = share.unwrap_or(ASSUMED_SHARE);
        let shows = time.map_or_else(
            || format!("a failure rate above {limit} is excluded after"),
            |time| {
                let bound = self.bound_after(self.answers_in(time, rate * share));
                let time = humantime::format_duration(whole(time));
                if bound < 1.0 {
                    let bound = percent_rounded(bound, f64::ceil);
                    format!("{time} can exclude a failure rate above {bound}; {limit} takes")
                } else {
                    format!("{time} can exclude no failure rate; {limit} takes")
                }
            },
        );
        let Some(needed) = self.answers_until_promotion() else {
            return format!("{traffic}, {shows} more than {} answers", count(FORESIGHT));
        };
        let takes = |share: f64| humantime::format_duration(self.time_for(needed, rate, share)).to_string();
        let half =
            if share < 0.5 { format!(", and with a half of them {}", takes(0.5)) } else { String::new() };
        format!("{traffic}, {shows} {}{half}", takes(share))
    }

    /// The number of answers in this time that are not left out of a warm-up of all pods.
    fn answers_in(&self, time: Duration, rate: f64) -> u64 {
        let time = time.saturating_sub(self.warm_up.unwrap_or_default());
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let answers = (time.as_secs_f64() * rate) as u64;
        answers
    }

    /// The time until the canary has given so many answers, and stable as many as a promotion needs, in whole seconds.
    fn time_for(&self, answers: u64, rate: f64, share: f64) -> Duration {
        let of_canary = real(answers) / (rate * share);
        let of_stable = (1.0 / self.max_failure_rate.get()).ceil() / (rate * (1.0 - share));
        let warm_up = self.warm_up.unwrap_or_default();
        whole(
            Duration::try_from_secs_f64(of_canary.max(of_stable))
                .unwrap_or(Duration::MAX)
                .saturating_add(warm_up),
        )
    }
}

/// In whole seconds, and in whole minutes from ten minutes on: rounded up.
fn whole(time: Duration) -> Duration {
    let seconds = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
    let step = if seconds < 600 { 1 } else { 60 };
    Duration::from_secs(seconds.div_ceil(step).saturating_mul(step))
}

/// For example "10 requests a second".
fn requests(rate: f64) -> String {
    let (number, unit) = if rate >= 1.0 { (rate, "a second") } else { (rate * 3600.0, "an hour") };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    let number = if number >= 10.0 {
        count(number.round() as u64)
    } else {
        format!("{}", (number * 10.0).round() / 10.0)
    };
    format!("{number} requests {unit}")
}

/// A share in words.
fn part(share: f64) -> String {
    let named = [(0.5, "a half"), (0.25, "a quarter"), (0.1, "a tenth")];
    let named = named.into_iter().find(|(named, _)| (share - named).abs() < 0.005 * named);
    named.map_or_else(|| percent_rounded(share, f64::round), |(_, name)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Decision, Fraction, Judge, Outcome, Release, Request};

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn the_outlook_says_what_the_traffic_can_show() {
        let settings = Settings::default();
        assert_eq!(
            settings.outlook(200.0 / 3600.0, Some(0.25), Some(24 * HOUR)),
            "at 200 requests an hour, a quarter of them the canary's, and none that fails, 1day can exclude a failure rate \
             above 0.29 %; 1 % takes 6h 54m, and with a half of them 3h 27m"
        );
        assert_eq!(
            settings.outlook(10.0, None, Some(HOUR / 12)),
            "at 10 requests a second, if a quarter of them go to the canary and none fails, 5m can exclude a failure rate \
             above 0.47 %; 1 % takes 2m 18s, and with a half of them 1m 9s"
        );
        assert_eq!(
            settings.outlook(2.5, Some(0.05), None),
            "at 2.5 requests a second, 5 % of them the canary's, and none that fails, a failure rate above 1 % is excluded \
             after 46m, and with a half of them 4m 36s"
        );
        assert!(settings.outlook(0.001, Some(0.25), Some(HOUR)).contains("1h can exclude no failure rate; "));
        let warm_up = Settings { warm_up: Some(Duration::from_secs(30)), ..settings };
        assert!(warm_up.outlook(10.0, None, None).contains(" after 2m 48s, "), "the warm-up comes first");
        let strict = Settings { max_failure_rate: Fraction::new(1e-6).unwrap(), ..settings };
        assert!(strict.outlook(10.0, None, None).ends_with("is excluded after more than 100,000 answers"));
        let of_stable = settings.outlook(1.0, Some(0.9), None);
        assert!(
            of_stable.ends_with(" after 16m 40s") || of_stable.ends_with(" after 17m"),
            "stable's answers: {of_stable}"
        );
    }

    /// The numbers are those of a judge that sees these answers.
    #[test]
    fn the_outlook_is_what_a_judge_says_then() {
        let settings = Settings::default();
        let mut judge = Judge::new(settings);
        let mut answers = 0;
        while judge.decided().is_none() {
            (0..3).for_each(|_| judge.observe(Request::new(Some(Release::Stable), Outcome::Success)));
            judge.observe(Request::new(Some(Release::Canary), Outcome::Success));
            answers += 1;
        }
        assert!(matches!(judge.decided(), Some(Decision::Promote { .. })));
        let judged = judge.verdict().canary.counts.requests;
        assert!(settings.answers_until_promotion().is_some_and(|needed| answers - needed < 4), "{answers}");
        assert!((judge.verdict().promotion_bound - settings.bound_after(judged)).abs() < 1e-12);
    }
}
