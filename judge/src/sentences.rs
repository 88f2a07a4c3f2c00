//! A verdict and its price, in sentences.

use std::fmt::{self, Display, Formatter};

use super::{
    decision::FORESIGHT,
    pods::FailingPod,
    price::Price,
    verdict::{Decision, Estimate, Evidence, Reason, Verdict},
};
use crate::{Counts, Release};

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        match self.decision {
            Decision::Promote { reason, clear_after } => self.promote(f, reason, &clear_after)?,
            Decision::RollBack { clear_after } => self.roll_back(f, &clear_after)?,
            Decision::NotYet => self.not_yet(f)?,
            Decision::Hold => self.hold(f)?,
        }
        f.write_str(".")?;
        self.stable_pods_explain_the_difference(f)?;
        self.unattributed(f)?;
        self.slow(f)?;
        self.failing_pods(f)
    }
}

impl Verdict {
    fn promote(&self, f: &mut Formatter, reason: Reason, clear_after: &Evidence) -> fmt::Result {
        let Evidence { canary, stable, .. } = clear_after;
        write!(f, "Promote: the canary has failed {}", ratio(*canary))?;
        match reason {
            Reason::Limit => write!(
                f,
                ", so at most {limit} of its requests fail (the limit is {limit}). There is no evidence that it is \
                 worse than stable, which has failed {}",
                ratio(*stable),
                limit = self.limit(),
            )?,
            Reason::Ratio => write!(
                f,
                ", and stable {}. Stable itself fails more than the limit of {}, and the canary fails at most \
                 {} times as often",
                ratio(*stable),
                self.limit(),
                self.settings.max_ratio.get(),
            )?,
        }
        self.since(f, clear_after)
    }

    fn roll_back(&self, f: &mut Formatter, clear_after: &Evidence) -> fmt::Result {
        write!(
            f,
            "Roll back: the canary is worse than stable (clear after {} of its answers). It has failed {}, and \
             stable {}",
            clear_after.canary.requests, self.canary, self.stable
        )
    }

    fn not_yet(&self, f: &mut Formatter) -> fmt::Result {
        let Counts { requests, .. } = self.canary.counts;
        if requests == 0 {
            return write!(f, "Not yet: the canary has not answered");
        }
        let bound = percent_rounded(self.promotion_bound, f64::ceil);
        let (canary, limit) = (ratio(self.canary.counts), self.limit());
        write!(
            f,
            "Not yet: the canary has failed {canary}, so at most {bound} of its requests fail (the limit is {limit})"
        )?;
        match self.stable.counts.requests {
            0 => write!(f, ". Stable has not answered")?,
            _ => write!(f, ". Stable has failed {}", ratio(self.stable.counts))?,
        }
        self.missing_answers(f)
    }

    fn missing_answers(&self, f: &mut Formatter) -> fmt::Result {
        match self.more_answers {
            Some(0) => {}
            Some(more) => {
                write!(
                    f,
                    ". A promotion takes about {more} more answers of the canary if all of them succeed"
                )?;
            }
            None => write!(f, ". A promotion would take more than {FORESIGHT} more successes of the canary")?,
        }
        if self.more_stable_answers > 0 {
            let (more, limit) = (self.more_stable_answers, self.limit());
            write!(
                f,
                ". It also takes {more} more answers of stable in the same time: with fewer, a stable release that \
                 fails {limit} of its requests would often show no failure to compare with"
            )?;
        }
        Ok(())
    }

    fn hold(&self, f: &mut Formatter) -> fmt::Result {
        write!(
            f,
            "Hold: both releases fail more than {} of their requests, and there is no clear difference between them. \
             The canary has failed {}, and stable {}. Look for the cause elsewhere; a roll-back would only be a \
             precaution",
            self.limit(),
            self.canary,
            self.stable
        )
    }

    /// The canary's counts at this time, if they have changed since the decision.
    fn since(&self, f: &mut Formatter, clear_after: &Evidence) -> fmt::Result {
        if clear_after.canary == self.canary.counts {
            return Ok(());
        }
        write!(f, ". By now the canary has failed {}", ratio(self.canary.counts))
    }

    fn stable_pods_explain_the_difference(&self, f: &mut Formatter) -> fmt::Result {
        if !self.failing_pods.explain_the_difference {
            return Ok(());
        }
        write!(
            f,
            " The canary has more failures than its share of the requests explains, but stable's own pods differ as much. \
             So the cause may be a pod, its node, or clients that always reach the same pod."
        )
    }

    fn unattributed(&self, f: &mut Formatter) -> fmt::Result {
        match self.unattributed {
            0 => return Ok(()),
            1 => write!(f, " 1 failure names no release: it counts")?,
            more => write!(f, " {more} failures name no release: they count")?,
        }
        f.write_str(" in full against a promotion, and not at all for a roll-back.")
    }

    fn slow(&self, f: &mut Formatter) -> fmt::Result {
        let Some(limit) = self.settings.max_latency else { return Ok(()) };
        let (canary, stable) = (self.canary.counts.slow, self.stable.counts.slow);
        if canary + stable == 0 {
            return Ok(());
        }
        let limit = humantime::format_duration(limit);
        write!(
            f,
            " Answers slower than {limit} count as failures: {canary} of the canary's, {stable} of stable's."
        )
    }

    fn failing_pods(&self, f: &mut Formatter) -> fmt::Result {
        let canary = self.failing_pods.canary.iter().map(|pod| (Release::Canary, pod));
        let stable = self.failing_pods.stable.iter().map(|pod| (Release::Stable, pod));
        for (release, FailingPod { pod, counts, others }) in canary.chain(stable) {
            let (failed, others) = (ratio(*counts), ratio(*others));
            write!(
                f,
                " The {release} pod {pod} fails more often than the others: it has failed {failed}, the others {others}."
            )?;
        }
        Ok(())
    }

    fn limit(&self) -> String {
        percent(self.settings.max_failure_rate.get())
    }
}

/// For example "7 of 21 requests".
fn ratio(counts: Counts) -> String {
    format!("{} of {} requests", counts.failures, counts.requests)
}

impl Display for Estimate {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let lower = percent_rounded(self.bounds.lower, f64::floor);
        let upper = percent_rounded(self.bounds.upper, f64::ceil);
        write!(f, "{} (between {lower} and {upper})", ratio(self.counts))
    }
}

impl Display for Price {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        if self.failed_requests <= 0.0 {
            f.write_str("The canary has cost no failed requests: it has not failed more often than stable.")?;
        } else {
            write!(f, "The canary has cost about {:.0} failed requests", self.failed_requests.max(1.0))?;
            if let Some(share) = self.budget_share {
                write!(f, ", {} of a month's error budget", about(share))?;
            }
            f.write_str(".")?;
        }
        if self.unattributed_failed_requests > 0.0 {
            let requests = self.unattributed_failed_requests.max(1.0);
            write!(
                f,
                " About {requests:.0} more failed requests name no release, and are not counted here."
            )?;
        }
        Ok(())
    }
}

/// A share in per cent, with all its digits, as in verdicts: "0.1 %".
pub fn percent(rate: f64) -> String {
    let percent = rate * 100.0;
    // the multiplication by 100 may add wrong digits after the twelfth decimal
    if percent >= 1e-9 { percent_with_decimals(percent, 12) } else { format!("{percent:.1e} %") }
}

/// An estimate in per cent. Only 0 is shown as 0 %, and only 1 or more is shown as 100 % or more.
fn about(share: f64) -> String {
    let shown = percent_rounded(share, f64::round);
    match shown.as_str() {
        "0 %" if share > 0.0 => "less than 0.0001 %".to_owned(),
        "100 %" if share < 1.0 => "more than 99 %".to_owned(),
        _ => shown,
    }
}

/// A share in per cent with two significant digits. `round` rounds up or down, so that an upper or lower bound
/// stays one.
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

    #[test]
    fn a_share_above_0_is_never_shown_as_0() {
        assert_eq!(percent(0.07), "7 %");
        assert_eq!(percent(1e-9), "0.0000001 %");
        assert_eq!(percent(1e-13), "1.0e-11 %");
        assert_eq!(percent_rounded(1e-12, f64::ceil), "0.0001 %", "an upper bound is never 0");
        assert_eq!((about(0.0), about(1e-9)), ("0 %".to_owned(), "less than 0.0001 %".to_owned()));
        assert_eq!((about(0.9997), about(1.0)), ("more than 99 %".to_owned(), "100 %".to_owned()));
    }
}
