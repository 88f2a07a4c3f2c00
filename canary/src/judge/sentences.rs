//! The sentences in which a verdict, and its price, are told.

use std::fmt::{self, Display, Formatter};

use super::{
    decision::{Decision, Estimate, FORESIGHT, Verdict},
    price::Price,
};
use crate::release::Counts;

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        match self.decision {
            Decision::Promote => write!(f, "Promote: {}.", self.promotion_evidence()),
            Decision::RollBack { worse_than_stable, above_limit, stable_above_limit } => {
                let limit = percent(self.settings.max_failure_rate.get());
                let worse = ("is worse than stable".to_owned(), worse_than_stable);
                let above = (format!("fails more than {limit} of its requests"), above_limit);
                let reasons: Vec<String> = [worse, above]
                    .into_iter()
                    .filter_map(|(reason, evidence)| Some((reason, evidence?.canary.requests)))
                    .map(|(reason, answers)| format!("{reason} (clear after {answers} of its answers)"))
                    .collect();
                write!(f, "Roll back: the canary {}", reasons.join(" and "))?;
                write!(f, ": it has failed {}, and stable {}", self.canary, self.stable)?;
                if stable_above_limit {
                    write!(
                        f,
                        "; stable fails more than {limit} too, so the cause may lie outside the canary"
                    )?;
                }
                if self.unnamed.failures > 0 {
                    write!(f, "; failures that name no release, {}, are left out", self.unnamed.failures)?;
                }
                f.write_str(".")
            }
            Decision::NotYet { more_answers } => {
                write!(f, "Not yet: {}; ", self.promotion_evidence())?;
                match more_answers {
                    Some(more) => write!(f, "about {more} more of its answers would do if all succeed."),
                    None => write!(f, "more than {FORESIGHT} more of its answers would have to succeed."),
                }
            }
        }
    }
}

impl Verdict {
    fn promotion_evidence(&self) -> String {
        let Counts { requests: answers, failures } = self.canary.counts;
        let unnamed = self.unnamed.failures;
        let (all_answers, all_failures) = (answers + unnamed, failures + unnamed);
        if all_answers == 0 {
            return "the canary has not answered".to_owned();
        }
        let counted = match unnamed {
            0 => String::new(),
            _ => format!(", {all_failures} of {all_answers} with the failures that name no release"),
        };
        let bound = percent_rounded(self.promotion_bound, f64::ceil);
        let limit = percent(self.settings.max_failure_rate.get());
        let stable = match self.stable.counts {
            Counts { requests: 0, .. } => "stable has not answered".to_owned(),
            Counts { requests: answers, failures } => {
                format!("nothing shows it to be worse than stable, which has failed {failures} of {answers}")
            }
        };
        format!(
            "the canary has failed {failures} of {answers} requests{counted}, \
             so at most {bound} of its requests fail (the limit is {limit}), and {stable}"
        )
    }
}

impl Display for Estimate {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let Counts { requests: answers, failures } = self.counts;
        let lower = percent_rounded(self.bounds.lower, f64::floor);
        let upper = percent_rounded(self.bounds.upper, f64::ceil);
        write!(f, "{failures} of {answers} (between {lower} and {upper} of its requests)")
    }
}

fn percent(rate: f64) -> String {
    percent_with_decimals(rate * 100.0, 6)
}

/// With two significant digits, rounded up or down so that a bound stays one.
fn percent_rounded(rate: f64, round: fn(f64) -> f64) -> String {
    let percent = rate * 100.0;
    let decimals: u8 = match percent {
        10.0.. => 0,
        1.0.. => 1,
        0.1.. => 2,
        0.01.. => 3,
        _ => 4,
    };
    let scale = 10_f64.powi(decimals.into());
    percent_with_decimals(round(percent * scale) / scale, decimals)
}

fn percent_with_decimals(percent: f64, decimals: u8) -> String {
    let digits = format!("{percent:.*}", usize::from(decimals));
    let digits = if decimals > 0 { digits.trim_end_matches('0').trim_end_matches('.') } else { &digits };
    format!("{digits} %")
}

impl Display for Price {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        if self.failed_requests <= 0.0 {
            return f.write_str("The canary has cost no requests beyond those that stable fails.");
        }
        let share = percent_rounded(self.budget_share, f64::round);
        write!(f, "The canary has cost about {:.0} failed requests, ", self.failed_requests)?;
        write!(f, "{share} of a month's error budget.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_shown_rounded_outwards() {
        assert_eq!(percent_rounded(0.010_000_1, f64::ceil), "1.1 %");
        assert_eq!(percent_rounded(0.009_999, f64::ceil), "1 %");
        assert_eq!(percent_rounded(0.123_4, f64::floor), "12 %");
        assert_eq!(percent_rounded(1.0, f64::ceil), "100 %");
        assert_eq!(percent_rounded(0.0, f64::floor), "0 %");
        assert_eq!(percent(0.001), "0.1 %");
    }
}
