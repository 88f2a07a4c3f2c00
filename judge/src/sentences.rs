//! A verdict and its price, in sentences.

use std::{
    fmt::{self, Display, Formatter},
    mem,
    time::Duration,
};

use crate::{Batch, Counts, Release};
use crate::{
    by_limit::FORESIGHT,
    chance::{self, Pair},
    numbers::Tolerance,
    pods::FailingPod,
    price::Price,
    share::MOST_ON_TRIAL,
    verdict::{
        Absence, Basis, Decision, Episodes, Estimate, Evidence, Latency, PodSpans, Reason, Slower,
        StratumEvidence, Verdict,
    },
};

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        match self.decision {
            Decision::Promote { reason, clear_after } => self.promote(f, reason, &clear_after)?,
            Decision::RollBack { clear_after } => self.roll_back(f, &clear_after)?,
            Decision::NotYet => self.not_yet(f)?,
            Decision::Hold => self.hold(f)?,
        }
        f.write_str(".")?;
        self.latency(f)?;
        self.not_covered(f)?;
        self.share(f)?;
        self.stable_pods_explain_the_difference(f)?;
        self.episodes(f)?;
        self.unattributed(f)?;
        self.waiting(f)?;
        self.warm_up(f)?;
        self.slow(f)?;
        self.restarts(f)?;
        self.failing_pods(f)
    }
}

impl Verdict {
    fn promote(&self, f: &mut Formatter, reason: Reason, clear_after: &Evidence) -> fmt::Result {
        let Evidence { canary, stable, by_limit, .. } = clear_after;
        match reason {
            Reason::Limit => {
                write!(
                    f,
                    "Promote: {}, so at most {limit} of its requests fail (the limit is {limit})",
                    failed(*canary, by_limit),
                    limit = self.limit(),
                )?;
                left_out(f, by_limit)?;
                let (among, stable) = (self.among_alike(), ratio(*stable));
                f.write_str(". ")?;
                if self.has_more_failures_than_its_share() {
                    f.write_str("It is not clear that its release is worse than stable")?;
                } else if among.is_empty() {
                    f.write_str("There is no evidence that it is worse than stable")?;
                } else {
                    let among = among.replacen('a', "A", 1);
                    write!(f, "{among}there is no evidence that it is worse than stable")?;
                }
                write!(f, ", which has failed {stable}")?;
            }
            Reason::Ratio => write!(
                f,
                "Promote: the canary has failed {}, and stable {}. Stable itself fails more than the limit of {}, and \
                 {}the canary is shown to fail less than {} times as often",
                ratio(*canary),
                ratio(*stable),
                self.limit(),
                if self.strata.is_empty() { "" } else { "among requests of the same kind, " },
                self.settings.max_ratio.get(),
            )?,
        }
        self.since(f, clear_after)
    }

    fn roll_back(&self, f: &mut Formatter, clear_after: &Evidence) -> fmt::Result {
        if let Some(Counts { requests, .. }) = clear_after.warm_up {
            let all = count(requests);
            return write!(
                f,
                "Roll back: the canary has failed all of its first {all} requests, beside a stable release that works"
            );
        }
        let worse = match self.latency {
            Some(Latency { rolled_back: true, .. }) => self.slower_than_stable(),
            _ if !self.strata.is_empty() => return self.roll_back_by_strata(f, clear_after),
            _ => "worse than stable".to_owned(),
        };
        write!(
            f,
            "Roll back: the canary is {worse} (clear after {} of its answers). It has failed {}, and stable {}",
            count(clear_after.canary.requests),
            self.canary,
            self.stable
        )
    }

    fn roll_back_by_strata(&self, f: &mut Formatter, clear_after: &Evidence) -> fmt::Result {
        let clear = format!("clear after {} of its answers", count(clear_after.canary.requests));
        let mut worse: Vec<_> = self.strata.iter().filter(|one| one.worse).collect();
        worse.sort_by(|one, other| other.ln_e_value.total_cmp(&one.ln_e_value));
        if worse.is_empty() {
            write!(
                f,
                "Roll back: the canary is worse than stable when requests of the same kind are compared ({clear}). "
            )?;
            let known = self.strata.len();
            match self.strata.iter().filter(|one| one.ln_e_value > 0.0).count() {
                0 | 1 => {}
                some if some < known => {
                    write!(f, "No kind shows it alone, but {some} of the {known} do together. ")?;
                }
                _ => write!(f, "No kind shows it alone, but all {known} of them do together. ")?,
            }
            let failures = self.canary.counts.failures;
            if let Some(one) = self.strata.iter().find(|one| 2 * one.canary.failures > failures) {
                let (canary, stable) = (ratio(one.canary), ratio(one.stable));
                let most = if one.canary.failures == failures { "All" } else { "Most" };
                write!(
                    f,
                    "{most} of its failures are on {}: there it has failed {canary}, and stable {stable}. In all, it",
                    name(one)
                )?;
            } else {
                f.write_str("It")?;
            }
            return write!(f, " has failed {}, and stable {}", self.canary, self.stable);
        }
        write!(f, "Roll back: the canary is worse than stable on {} ({clear}). ", named(&worse))?;
        for (number, one) in worse.iter().take(MOST_NAMED).enumerate() {
            match number {
                0 if worse.len() == 1 => f.write_str("There")?,
                0 => write!(f, "On {}", name(one))?,
                _ => write!(f, "; on {}", name(one))?,
            }
            let (canary, stable) = (ratio(one.canary), ratio(one.stable));
            write!(f, " it has failed {canary}, and stable {stable}")?;
        }
        let elsewhere = self.strata.iter().filter(|one| !one.worse);
        let (canary, stable) = elsewhere
            .fold((Counts::default(), Counts::default()), |(canary, stable), one| {
                (canary + one.canary, stable + one.stable)
            });
        if canary.requests == 0 || stable.requests == 0 {
            return f.write_str(". Elsewhere there is nothing to compare yet");
        }
        let (canary, stable) = (ratio(canary), ratio(stable));
        let they_are = if self.is_alike_elsewhere { "they are alike: it" } else { "it" };
        write!(f, ". Elsewhere {they_are} has failed {canary}, and stable {stable}")
    }

    /// What a promotion says nothing of.
    fn not_covered(&self, f: &mut Formatter) -> fmt::Result {
        let mut rest: Vec<_> = self.strata.iter().filter(|one| !one.covered).collect();
        if !matches!(self.decision, Decision::Promote { .. }) || rest.is_empty() {
            return Ok(());
        }
        // the ones that stable answers most often matter most
        rest.sort_by_key(|one| std::cmp::Reverse(one.stable.requests));
        let seen = |one: &&&StratumEvidence| {
            let times = match one.canary.requests {
                0 => "which the canary has not answered".to_owned(),
                1 => "which the canary has answered once".to_owned(),
                times => format!("which the canary has answered {} times", count(times)),
            };
            let of_stable = if one.stable.requests == 0 { " and stable never" } else { "" };
            format!("{}, {times}{of_stable}", name(one))
        };
        let mut seen: Vec<_> = rest.iter().take(MOST_NAMED).map(|one| seen(&one)).collect();
        if rest.len() > MOST_NAMED {
            seen.push(format!("{} more", count((rest.len() - MOST_NAMED) as u64)));
        }
        let separator = if seen.len() > 2 { "; and of " } else { ", and of " };
        let all = match seen.split_last() {
            Some((last, [])) => last.clone(),
            Some((last, others)) => format!("{}{separator}{last}", others.join("; of ")),
            None => String::new(),
        };
        write!(
            f,
            " It says nothing of {all}: a canary that fails all requests there would not have been found yet."
        )
    }

    fn not_yet(&self, f: &mut Formatter) -> fmt::Result {
        f.write_str("Not yet: ")?;
        match self.absence {
            Some(Absence::Silent(time)) => {
                let time = humantime::format_duration(Duration::from_secs(time.as_secs()));
                write!(f, "the canary has not answered for {time}, and a promotion takes one that does. ")?;
            }
            Some(Absence::Restarted) => {
                f.write_str(
                    "a pod of the canary has just restarted, and a promotion takes one that does not. ",
                )?;
            }
            Some(Absence::Unready(time)) => {
                let time = humantime::format_duration(Duration::from_secs(time.as_secs()));
                write!(
                    f,
                    "a pod of the canary has not been ready for {time}, or there is none, and a promotion takes pods that \
                     are ready. "
                )?;
            }
            None => {}
        }
        let the = if self.absence.is_some() { "The" } else { "the" };
        if self.canary.counts.requests == 0 {
            return match self.waiting.canary.requests {
                0 if self.warm_up.canary.requests > 0 => {
                    write!(f, "all answers of {the} canary are of its warm-up", the = the.to_lowercase())
                }
                0 => write!(f, "{the} canary has not answered"),
                _ => write!(f, "none of {the} canary's answers is judged yet", the = the.to_lowercase()),
            };
        }
        let (bound, limit) = (percent_rounded(self.promotion_bound, f64::ceil), self.limit());
        let failed = failed(self.canary.counts, &self.by_limit);
        let failed = if self.absence.is_some() { failed.replacen("the", "The", 1) } else { failed };
        write!(f, "{failed}, so at most {bound} of its requests fail (the limit is {limit})")?;
        left_out(f, &self.by_limit)?;
        match self.stable.counts.requests + self.waiting.stable.requests {
            0 => write!(f, ". Stable has not answered")?,
            _ => write!(f, ". Stable has failed {}", ratio(self.stable.counts))?,
        }
        self.missing_answers(f)
    }

    fn missing_answers(&self, f: &mut Formatter) -> fmt::Result {
        let mut is_first = false;
        match self.more_answers {
            Some(0) => is_first = true,
            Some(more) => {
                write!(
                    f,
                    ". A promotion takes about {} more answers of the canary if all of them succeed",
                    count(more)
                )?;
            }
            None => write!(
                f,
                ". A promotion would take more than {} more successes of the canary",
                count(FORESIGHT)
            )?,
        }
        if self.more_scrapes > 0 && is_first {
            is_first = false;
            match self.more_scrapes {
                1 => f.write_str(". A promotion takes one more scrape of both")?,
                more => write!(f, ". A promotion takes {more} more scrapes of the canary")?,
            }
        }
        if self.more_stable_answers > 0 {
            let (more, limit) = (count(self.more_stable_answers), self.limit());
            if mem::take(&mut is_first) {
                write!(
                    f,
                    ". A promotion takes {more} more answers of stable in the same time as the canary's"
                )?;
            } else {
                write!(f, ". It also takes {more} more answers of stable in the same time")?;
            }
            write!(
                f,
                ": with fewer, a stable release that fails {limit} of its requests would often show no failure to compare \
                 with"
            )?;
            self.not_compared(f)?;
        }
        let mut missing: Vec<_> = self.strata.iter().filter(|one| one.more_answers > 0).collect();
        if !missing.is_empty() {
            missing.sort_by_key(|one| std::cmp::Reverse(one.stable.requests));
            let of = missing.iter().take(MOST_NAMED);
            let of: Vec<_> = of.map(|one| format!("{} on {}", count(one.more_answers), name(one))).collect();
            let more = match missing.len().saturating_sub(MOST_NAMED) {
                0 => String::new(),
                more => format!(", and some on {more} more"),
            };
            let takes = if is_first { "A promotion takes" } else { "It also takes" };
            let least = count(self.settings.min_answers);
            write!(
                f,
                ". {takes} {least} answers of the canary on each kind of request that stable gets: {}{more} are missing",
                of.join(", ")
            )?;
        }
        Ok(())
    }

    /// Why a promotion takes more answers of stable, although stable has answered often enough.
    fn not_compared(&self, f: &mut Formatter) -> fmt::Result {
        let (all, enough) = (self.stable.counts.requests, self.settings.stable_answers());
        if all < enough {
            return Ok(());
        }
        let compared = match enough.saturating_sub(self.more_stable_answers) {
            0 => "none".to_owned(),
            some => format!("only {}", count(some)),
        };
        write!(f, ". Of stable's {} answers so far, {compared} can be compared: ", count(all))?;
        if self.restarts_lose_counts {
            // scraped counters
            return f.write_str(
                "the counters of a pod are not compared while they begin or fall, nor while the canary does not answer",
            );
        }
        f.write_str("the canary did not answer")?;
        f.write_str(if self.strata.is_empty() { "" } else { " requests of the same kind" })?;
        f.write_str(" at the time of the others")
    }

    fn hold(&self, f: &mut Formatter) -> fmt::Result {
        write!(
            f,
            "Hold: both releases fail more than {} of their requests, and {}. The canary has failed {}, and stable {}. \
             Look for the cause elsewhere; a roll-back would only be a precaution. When the failures end, the verdict \
             goes on by itself",
            self.limit(),
            self.no_clear_difference(),
            self.canary,
            self.stable
        )?;
        match self.more_answers {
            Some(more) => {
                let more = count(more.max(1));
                write!(
                    f,
                    ": a promotion then takes about {more} more answers of the canary if all of them succeed"
                )
            }
            None => write!(
                f,
                ", but a promotion would then take more than {} more successes of the canary. To begin anew is faster",
                count(FORESIGHT)
            ),
        }
    }

    /// What a hold says of the difference.
    fn no_clear_difference(&self) -> String {
        if self.has_more_failures_than_its_share() {
            return "it is not clear that the canary's release is worse".to_owned();
        }
        let among = self.among_alike();
        if chance::has_fewer(&self.totals(), self.settings.alpha.get()) {
            return format!("{among}the canary has failed less often than stable");
        }
        format!("{among}there is no clear difference between them")
    }

    /// Whether requests alone would make the canary worse, and something else keeps it from a roll-back: pods or episodes.
    fn has_more_failures_than_its_share(&self) -> bool {
        self.failing_pods.explain_the_difference || self.episodes.is_some_and(|episodes| episodes.decide)
    }

    /// Between which requests a difference counts, where the totals show another one: "among requests of the same kind, ".
    fn among_alike(&self) -> &'static str {
        match (self.strata.is_empty(), chance::has_more(&self.totals(), self.settings.alpha.get())) {
            (true, false) => "",
            (true, true) => "among requests of the same time, ",
            (false, false) => "among requests of the same kind, ",
            (false, true) => "among requests of the same kind and time, ",
        }
    }

    /// The answers of both releases that are judged, of each stratum.
    fn totals(&self) -> Vec<Pair> {
        if self.strata.is_empty() {
            vec![(self.stable.counts, self.canary.counts)]
        } else {
            self.strata.iter().map(|one| (one.stable, one.canary)).collect()
        }
    }

    /// The canary's counts at this time, if they have changed since the decision.
    fn since(&self, f: &mut Formatter, clear_after: &Evidence) -> fmt::Result {
        if clear_after.canary == self.canary.counts {
            return Ok(());
        }
        write!(f, ". By now the canary has failed {}", ratio(self.canary.counts))
    }

    /// The share that the canary may get, or what a promotion allows.
    fn share(&self, f: &mut Formatter) -> fmt::Result {
        if let (Some(time), false) = (self.soak, matches!(self.decision, Decision::RollBack { .. })) {
            let (share, time) =
                (percent_rounded(self.max_share, f64::floor), humantime::format_duration(time));
            return write!(f, " At most {share} of the traffic until that has been held for {time}.");
        }
        match self.decision {
            Decision::RollBack { .. } => Ok(()),
            Decision::Promote { .. } => {
                let burn = self.settings.burn(self.promotion_bound);
                if burn <= 1.0 {
                    return Ok(());
                }
                write!(f, " With all traffic it may burn up to {} times the error budget.", times(burn))
            }
            Decision::NotYet | Decision::Hold => {
                let share = percent_rounded(self.max_share, f64::floor);
                write!(f, " At most {share} of the traffic for now: ")?;
                self.why_the_share(f)
            }
        }
    }

    /// Why the canary may get no more. A bound that the sentence gives already must not be followed by another one.
    fn why_the_share(&self, f: &mut Formatter) -> fmt::Result {
        let shown = |bound| percent_rounded(bound, f64::ceil);
        let bound = shown(self.share_bound);
        let is_hold = self.decision == Decision::Hold;
        if !is_hold && (self.canary.counts.requests == 0 || bound == shown(self.promotion_bound)) {
            return write!(f, "the worst canary still possible fails {bound}.");
        }
        if self.max_share >= MOST_ON_TRIAL {
            return f.write_str("stable must still answer, to be compared with.");
        }
        if is_hold {
            // the interval of its failure rate is another kind of bound
            let allowed = percent(self.settings.allowed());
            return write!(f, "with more, its failures may be more than {allowed} of all requests.");
        }
        write!(f, "the share rests on complete batches only, and by these the canary may still fail {bound}.")
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

    /// Why episodes keep a canary from a roll-back, and that one pod of it cannot be told from a bad pod.
    fn episodes(&self, f: &mut Formatter) -> fmt::Result {
        let Some(Episodes { canary, stable, span, decide, .. }) = self.episodes else { return Ok(()) };
        let is_rolled_back = matches!(self.decision, Decision::RollBack { .. });
        if decide && !is_rolled_back {
            let span = humantime::format_duration(span);
            let of = |PodSpans { spans, failing, .. }| format!("{} of {}", count(failing), count(spans));
            write!(
                f,
                " The canary has more failures than its share of the requests explains, but not clearly more episodes of them: \
                 its pods have failed in {} spans of {span}, and stable's in {}.",
                of(canary),
                of(stable)
            )?;
        }
        let is_for_failures = decide || self.failing_pods.explain_the_difference || {
            let is_slower = self.latency.is_some_and(|latency| latency.rolled_back);
            is_rolled_back && !is_slower
        };
        if canary.pods == 1 && is_for_failures {
            f.write_str(
                " The canary has one pod, and a bad pod or node looks like a bad release: two pods would tell.",
            )?;
        }
        Ok(())
    }

    fn unattributed(&self, f: &mut Formatter) -> fmt::Result {
        match self.unattributed {
            0 => return Ok(()),
            1 => write!(f, " 1 failure names neither stable nor the canary: it counts")?,
            more => write!(f, " {} failures name neither stable nor the canary: they count", count(more))?,
        }
        f.write_str(" in full against a promotion, and not at all for a roll-back.")
    }

    /// What was counted, and is not judged yet.
    fn waiting(&self, f: &mut Formatter) -> fmt::Result {
        let Counts { requests, failures, .. } = self.waiting.canary;
        match requests {
            0 => return Ok(()),
            1 => write!(f, " 1 more answer of the canary waits")?,
            more => write!(f, " {} more answers of the canary wait", count(more))?,
        }
        f.write_str(" for requests that were sent at the same time")?;
        match failures {
            0 => f.write_str("."),
            _ if requests == 1 => f.write_str(". It has failed."),
            _ if failures == requests => f.write_str(". All of them have failed."),
            1 => f.write_str("; 1 of them has failed."),
            failures => write!(f, "; {} of them have failed.", count(failures)),
        }
    }

    /// What is left out of pods that have just started.
    fn warm_up(&self, f: &mut Formatter) -> fmt::Result {
        let (Batch { stable, canary, unattributed }, Some(time)) = (self.warm_up, self.settings.warm_up)
        else {
            return Ok(());
        };
        if stable.requests + canary.requests + unattributed == 0 {
            return Ok(());
        }
        let time = humantime::format_duration(time);
        write!(f, " Left out, because their pods had started less than {time} before: ")?;
        write!(f, "the canary has failed {}, and stable {}", ratio(canary), ratio(stable))?;
        match unattributed {
            0 => f.write_str("."),
            1 => f.write_str(", and 1 failure names neither stable nor the canary."),
            more => write!(f, ", and {} failures name neither stable nor the canary.", count(more)),
        }
    }

    fn slow(&self, f: &mut Formatter) -> fmt::Result {
        let (canary, stable) = (self.canary.counts.slow, self.stable.counts.slow);
        if canary + stable == 0 {
            return Ok(());
        }
        match self.settings.max_latency {
            Some(limit) => write!(f, " Answers slower than {}", humantime::format_duration(limit))?,
            None => f.write_str(" Slow answers")?,
        }
        write!(f, " count as failures: {} of the canary's, {} of stable's.", count(canary), count(stable))
    }

    /// "more than 20 % slower than stable".
    fn slower_than_stable(&self) -> String {
        match self.settings.slower_by.map_or(0.0, Tolerance::get) {
            0.0 => "slower than stable".to_owned(),
            tolerance => format!("more than {} slower than stable", percent(tolerance)),
        }
    }

    /// What the latencies show. A promotion says whether it covers them.
    fn latency(&self, f: &mut Formatter) -> fmt::Result {
        let is_promotion = matches!(self.decision, Decision::Promote { .. });
        let Some(latency) = self.latency.filter(|latency| latency.compared > 0) else {
            return if is_promotion {
                f.write_str(" Its latency was not compared with stable's.")
            } else {
                Ok(())
            };
        };
        let is_slower = latency.p_value <= self.settings.alpha.get();
        match latency.slower.filter(|_| is_slower) {
            Some(slower) => {
                write!(f, " {slower}{latency}")?;
                if latency.decides { Ok(()) } else { f.write_str(" This decides nothing.") }
            }
            None if is_promotion && latency.decides => {
                write!(f, " It is not shown to be {}.", self.slower_than_stable())
            }
            None if is_promotion => f.write_str(" Its latency decides nothing."),
            None => Ok(()),
        }
    }

    fn restarts(&self, f: &mut Formatter) -> fmt::Result {
        match self.restarts {
            0 => return Ok(()),
            1 => f.write_str(" A pod of the canary has restarted.")?,
            times => write!(f, " Pods of the canary have restarted {} times.", count(times))?,
        }
        if self.restarts_lose_counts {
            f.write_str(" What a pod counts just before a restart is lost.")
        } else {
            Ok(())
        }
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

/// The most strata that a sentence names.
const MOST_NAMED: usize = 3;

/// The name of a stratum in a sentence.
fn name(stratum: &StratumEvidence) -> &str {
    stratum.name.as_deref().unwrap_or("all others")
}

/// For example "/cart, /checkout and 2 more".
fn named(strata: &[&StratumEvidence]) -> String {
    let mut names: Vec<_> = strata.iter().take(MOST_NAMED).map(|one| name(one).to_owned()).collect();
    if strata.len() > MOST_NAMED {
        names.push(format!("{} more", strata.len() - MOST_NAMED));
    }
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

/// "the canary has failed 7 of 21 requests", with only what a promotion by the limit rests on.
fn failed(canary: Counts, by_limit: &Basis) -> String {
    if by_limit.is_of_all() {
        format!("the canary has failed {}", ratio(canary))
    } else {
        format!("the canary has failed {} outside of incidents", ratio(by_limit.counts))
    }
}

/// What a promotion by the limit leaves out.
fn left_out(f: &mut Formatter, by_limit: &Basis) -> fmt::Result {
    if by_limit.is_of_all() {
        return Ok(());
    }
    write!(
        f,
        ". In incidents, in which stable fails, too, it has failed {}: these count only for the comparison with stable",
        ratio(by_limit.during_incidents)
    )
}

/// A factor with two significant digits, rounded up.
fn times(factor: f64) -> String {
    let percent = percent_rounded(factor / 100.0, f64::ceil);
    percent.trim_end_matches(" %").to_owned()
}

/// For example "7 of 21 requests".
fn ratio(counts: Counts) -> String {
    format!("{} of {} requests", count(counts.failures), count(counts.requests))
}

impl Display for Estimate {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let lower = percent_rounded(self.bounds.lower, f64::floor);
        let upper = percent_rounded(self.bounds.upper, f64::ceil);
        write!(f, "{} (between {lower} and {upper})", ratio(self.counts))
    }
}

impl Display for Slower {
    /// "Slower: 31 % of its answers take more than 80 ms, 4 % of stable's."
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let (canary, stable) = (about(self.canary_share), about(self.stable_share));
        let later = milliseconds(self.canary_threshold_ms);
        write!(f, "Slower: {canary} of its answers take more than {later}, {stable} of stable's")?;
        if self.canary_threshold_ms > self.threshold_ms {
            write!(f, " more than {}", milliseconds(self.threshold_ms))?;
        }
        f.write_str(".")
    }
}

impl Display for Latency {
    /// " Its median is 41 ms, stable's 20 ms."; empty if one of them is unknown.
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let Some((canary, stable)) = self.canary.p50_ms.zip(self.stable.p50_ms) else { return Ok(()) };
        let (canary, stable) = (milliseconds(canary), milliseconds(stable));
        write!(f, " Its median is {canary}, stable's {stable}.")
    }
}

/// A time with about two significant digits: "80 ms", "1.6 s". It is never rounded to 0.
fn milliseconds(ms: f64) -> String {
    if ms < 0.005 {
        return "<0.01 ms".to_owned();
    }
    let (number, unit) = if ms >= 1e3 { (ms / 1e3, "s") } else { (ms, "ms") };
    let digits = match number {
        100.0.. => format!("{number:.0}"),
        10.0.. => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    };
    let digits =
        if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { &digits };
    format!("{digits} {unit}")
}

impl Verdict {
    /// The cost of the canary in words.
    pub fn price_sentence(&self, price: &Price) -> String {
        let budget = price.budget_share.map(|share| format!("{} of a month's error budget", about(share)));
        let mut text = if price.failed_requests <= 0.0 {
            let it =
                if self.strata.is_empty() { "it" } else { "in all, among requests of the same kind, it" };
            format!("The canary has cost no failed requests: {it} has not failed more often than stable.")
        } else if matches!(self.decision, Decision::RollBack { .. }) {
            let budget = budget.map(|budget| format!(", {budget}")).unwrap_or_default();
            format!("The canary has cost about {}{budget}.", failed_requests(price.failed_requests))
        } else {
            let budget = budget.map(|budget| format!(" ({budget})")).unwrap_or_default();
            let more = failed_requests(price.failed_requests).replacen(' ', " more ", 1);
            let chance = self.may_be_chance();
            format!("The canary has about {more} than at stable's failure rate{budget}. {chance}")
        };
        if price.unattributed_failed_requests > 0.0 {
            let more = failed_requests(price.unattributed_failed_requests).replacen(' ', " more ", 1);
            text.push_str(" About ");
            text.push_str(&more);
            text.push_str(" that name neither stable nor the canary are not counted here.");
        }
        text
    }

    /// Whether the failures of a canary that is not rolled back may be chance. Like the price, it takes what waits, too,
    /// and what a warm-up leaves out.
    fn may_be_chance(&self) -> &'static str {
        let alpha = self.settings.alpha.get();
        let mut totals = self.totals();
        if let ([(stable, canary)], true) = (&mut totals[..], self.strata.is_empty()) {
            *stable += self.waiting.stable;
            *canary += self.waiting.canary;
            let with_warm_up = (*stable + self.warm_up.stable, *canary + self.warm_up.canary);
            if !chance::has_more(&totals, alpha) && chance::has_more(&[with_warm_up], alpha) {
                return "Only the answers that the warm-up leaves out make this more than chance explains.";
            }
        }
        if chance::has_more(&totals, alpha) {
            "Chance alone does not explain this, but it is not shown that the release is the cause."
        } else {
            "This may be chance."
        }
    }
}

/// For example "1,500 failed requests"; at least 1.
fn failed_requests(number: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    let number = number.max(1.0).round() as u64;
    format!("{} failed request{}", count(number), if number == 1 { "" } else { "s" })
}

/// A number with a comma between thousands: "1,500".
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

/// A share in per cent, with all its digits, as in verdicts: "0.1 %".
pub fn percent(rate: f64) -> String {
    let percent = rate * 100.0;
    // the multiplication by 100 may add wrong digits after the twelfth decimal
    if percent >= 1e-9 || percent <= 0.0 {
        percent_with_decimals(percent, 12)
    } else {
        format!("{percent:.1e} %")
    }
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
pub(crate) fn percent_rounded(rate: f64, round: fn(f64) -> f64) -> String {
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
    use crate::{Fraction, Judge, Outcome, Request, Settings, Traffic, Window, price::Budget};
    use Outcome::{Failure, Success};

    /// A judge that saw so many rounds of three answers of stable and one of the canary.
    fn judge(rounds: u64, stable: Outcome, canary: Outcome) -> Judge {
        let mut judge = Judge::new(Settings::default());
        for _ in 0..rounds {
            (0..3).for_each(|_| judge.observe(Request::new(Some(Release::Stable), stable)));
            judge.observe(Request::new(Some(Release::Canary), canary));
        }
        judge
    }

    fn price(failed: f64) -> Price {
        let budget = Budget { traffic: Traffic::new(100.0).unwrap(), slo: Fraction::new(0.999).unwrap() };
        Price {
            failed_requests: failed,
            unattributed_failed_requests: 0.0,
            budget_share: Some(failed / budget.failed_requests()),
        }
    }

    #[test]
    fn a_price_is_said_as_surely_as_the_verdict() {
        let (bad, open) = (judge(6, Success, Failure).verdict(), judge(0, Success, Success).verdict());
        assert_eq!(
            bad.price_sentence(&price(1500.0)),
            "The canary has cost about 1,500 failed requests, 0.58 % of a month's error budget."
        );
        assert_eq!(
            bad.price_sentence(&price(0.3)),
            "The canary has cost about 1 failed request, 0.0001 % of a month's error budget."
        );
        assert_eq!(
            open.price_sentence(&price(8.0)),
            "The canary has about 8 more failed requests than at stable's failure rate (0.0031 % of a month's error \
             budget). This may be chance."
        );
        let free = Price { unattributed_failed_requests: 10.0, ..price(0.0) };
        assert_eq!(
            open.price_sentence(&free),
            "The canary has cost no failed requests: it has not failed more often than stable. About 10 more failed \
             requests that name neither stable nor the canary are not counted here."
        );
    }

    /// Rounds in which `(stable, canary)` of so many answers fail, with the same failures at the beginning of each round.
    fn rounds(settings: Settings, rounds: u64, stable: (u64, u64), canary: (u64, u64)) -> Judge {
        let mut judge = Judge::new(settings);
        for _ in 0..rounds {
            observe(&mut judge, None, stable, canary);
        }
        judge
    }

    /// So many failures of so many answers of each release.
    fn observe(judge: &mut Judge, stratum: Option<&str>, stable: (u64, u64), canary: (u64, u64)) {
        for (release, (failures, answers)) in [(Release::Stable, stable), (Release::Canary, canary)] {
            for number in 0..answers {
                let outcome = if number < failures { Failure } else { Success };
                judge.observe(Request::new(Some(release), outcome).with_stratum(stratum));
            }
        }
    }

    fn said_of_price(judge: &Judge) -> String {
        let price = match judge.by_stratum() {
            Some(strata) => Price::of_strata(&strata, 1.0, None),
            None => Price::new(&judge.counted(), 1.0, None),
        };
        judge.verdict().price_sentence(&price.unwrap())
    }

    #[test]
    fn only_what_may_be_chance_is_said_to_be_perhaps_chance() {
        let more = |number: &str| format!("The canary has about {number} than at stable's failure rate. ");
        let mut few = rounds(Settings::default(), 1, (0, 221), (2, 79));
        few.end();
        assert_eq!(said_of_price(&few), more("2 more failed requests") + "This may be chance.");

        // one release after the other: no request of the canary has one of stable to be compared with
        let mut apart = rounds(Settings::default(), 1, (0, 2560), (0, 0));
        (0..600).for_each(|_| observe(&mut apart, None, (0, 0), (0, 1)));
        observe(&mut apart, None, (0, 0), (145, 145));
        apart.end();
        assert!(!matches!(apart.verdict().decision, Decision::RollBack { .. }));
        assert_eq!(
            said_of_price(&apart),
            more("145 more failed requests")
                + "Chance alone does not explain this, but it is not shown that the release is the cause."
        );
    }

    #[test]
    fn failures_of_a_warm_up_are_not_said_to_be_chance() {
        let warm_up = Some(Duration::from_secs(5));
        let mut judge = Judge::new(Settings { warm_up, ..Settings::default() });
        let canary = |outcome| Request::new(Some(Release::Canary), outcome).with_warm_up(true);
        (0..28).for_each(|number| {
            observe(&mut judge, None, (0, 3), (0, 0));
            judge.observe(canary(if number == 0 { Success } else { Failure }));
        });
        (0..50).for_each(|_| observe(&mut judge, None, (0, 3), (0, 1)));
        judge.end();
        assert!(!matches!(judge.verdict().decision, Decision::RollBack { .. }));
        let text = said_of_price(&judge);
        assert!(
            text.ends_with(
                " Only the answers that the warm-up leaves out make this more than chance explains."
            ),
            "{text}"
        );
    }

    /// Requests of two kinds: one fails half of its requests at both releases, and the canary gets more of it.
    fn paradox() -> Judge {
        let mut judge = Judge::new(Settings::default());
        for _ in 0..200 {
            observe(&mut judge, Some("/bad"), (1, 2), (2, 4));
            observe(&mut judge, Some("/good"), (0, 6), (0, 2));
        }
        judge.end();
        judge
    }

    #[test]
    fn with_strata_a_hold_finds_no_clear_difference_among_requests_of_the_same_kind() {
        let judge = paradox();
        let text = judge.verdict().to_string();
        assert!(
            text.starts_with(
                "Hold: both releases fail more than 1 % of their requests, and among requests of the same kind, there is no \
                 clear difference between them. The canary has failed 400 of 1,200 requests (between 2"
            ),
            "{text}"
        );
        assert_eq!(
            said_of_price(&judge),
            "The canary has cost no failed requests: in all, among requests of the same kind, it has not failed more often \
             than stable."
        );
    }

    #[test]
    fn a_hold_does_not_deny_a_difference_that_it_names_itself() {
        let mut judge = Judge::new(Settings::default());
        let observe = |judge: &mut Judge, release, pod, outcome| {
            judge.observe(Request::new(Some(release), outcome).with_pod(Some(pod)));
        };
        for round in 0..300 {
            let failed = |is| if is { Failure } else { Success };
            observe(&mut judge, Release::Stable, "one", failed(round % 2 == 0));
            (0..4).for_each(|_| observe(&mut judge, Release::Stable, "two", Success));
            observe(&mut judge, Release::Canary, "three", failed(round % 3 == 0));
        }
        let verdict = judge.verdict();
        let text = verdict.to_string();
        assert!(verdict.failing_pods.explain_the_difference, "{text}");
        assert!(
            text.starts_with(
                "Hold: both releases fail more than 1 % of their requests, and it is not clear that the canary's release is \
                 worse. The canary has failed "
            ),
            "{text}"
        );
        assert!(
            text.contains(" The canary has more failures than its share of the requests explains"),
            "{text}"
        );
        let promoted = Decision::Promote { reason: Reason::Limit, clear_after: judge_evidence() };
        let text = Verdict { decision: promoted, ..verdict }.to_string();
        assert!(
            text.contains(" It is not clear that its release is worse than stable, which has failed "),
            "{text}"
        );
    }

    fn judge_evidence() -> Evidence {
        match judge(400, Success, Success).verdict().decision {
            Decision::Promote { clear_after, .. } => clear_after,
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn a_hold_says_if_the_canary_has_failed_less_often() {
        // an incident, in which nothing counts for the ratio
        let mut verdict = rounds(Settings::default(), 60, (1, 3), (0, 1)).verdict();
        (verdict.canary, verdict.stable) = {
            let mut other = rounds(Settings::default(), 60, (2, 3), (0, 1));
            (0..6).for_each(|_| observe(&mut other, None, (0, 3), (1, 1)));
            let other = other.verdict();
            (other.canary, other.stable)
        };
        verdict.decision = Decision::Hold;
        let text = verdict.to_string();
        assert!(
            text.contains(", and the canary has failed less often than stable. The canary has failed "),
            "{text}"
        );
    }

    #[test]
    fn a_verdict_gives_one_bound_of_the_canarys_failure_rate() {
        let open = judge(150, Success, Success).verdict();
        let bound = percent_rounded(open.promotion_bound, f64::ceil);
        let text = open.to_string();
        assert!(text.contains(&format!("so at most {bound} of its requests fail")), "{text}");
        assert!(text.contains(&format!(" the worst canary still possible fails {bound}.")), "{text}");

        let hold = rounds(Settings::default(), 100, (1, 12), (1, 4)).verdict();
        let text = Verdict { decision: Decision::Hold, ..hold }.to_string();
        assert!(!text.contains("worst canary"), "the interval is another bound: {text}");
        assert!(
            text.contains(
                " of the traffic for now: with more, its failures may be more than 1 % of all requests."
            ),
            "{text}"
        );
    }

    #[test]
    fn a_roll_back_by_one_kind_says_nothing_of_kinds_without_evidence() {
        let mut judge = Judge::new(Settings::default());
        for round in 0..400 {
            for path in ["/a", "/b", "/c"] {
                let failures = u64::from(path == "/a" && round % 8 == 0);
                observe(&mut judge, Some(path), (0, 3), (failures, 1));
            }
            if judge.decided().is_some() {
                break;
            }
        }
        let mut verdict = judge.verdict();
        verdict.strata.iter_mut().for_each(|one| one.worse = false);
        let text = verdict.to_string();
        assert!(
            text.contains(" of its answers). All of its failures are on /a: there it has failed "),
            "{text}"
        );
        assert!(!text.contains(" together"), "{text}");

        verdict.strata[1].ln_e_value = 0.1;
        let text = verdict.to_string();
        assert!(
            text.contains("). No kind shows it alone, but 2 of the 3 do together. All of its "),
            "{text}"
        );
    }

    #[test]
    fn the_first_thing_that_a_promotion_takes_stands_in_whole_words() {
        // stable does not answer at all
        let mut judge = rounds(Settings { min_answers: 500, ..Settings::default() }, 1, (0, 0), (0, 400));
        judge.end();
        let text = judge.verdict().to_string();
        assert!(
            text.contains(
                ". Stable has not answered. A promotion takes 100 more answers of stable in the same time as the canary's: with \
                 fewer, a stable release that fails 1 % of its requests would often show no failure to compare with. At"
            ),
            "{text}"
        );
        // the same kinds, without enough on one of them
        let mut judge = Judge::new(Settings { min_answers: 20, ..Settings::default() });
        observe(&mut judge, Some("/checkout"), (0, 15), (0, 15));
        (0..400).for_each(|_| observe(&mut judge, Some("/"), (0, 1), (0, 1)));
        judge.end();
        let text = judge.verdict().to_string();
        assert!(
            text.contains(
                " requests. A promotion takes 20 answers of the canary on each kind of request that "
            ),
            "{text}"
        );
    }

    #[test]
    fn answers_of_stable_that_cannot_be_compared_are_named() {
        let mut judge = rounds(Settings::default(), 1, (0, 2560), (0, 0));
        (0..400).for_each(|_| observe(&mut judge, None, (0, 0), (0, 1)));
        observe(&mut judge, None, (0, 20), (0, 1));
        judge.end();
        let verdict = judge.verdict();
        let text = verdict.to_string();
        let compared = 100 - verdict.more_stable_answers;
        assert!(
            text.contains(&format!(
                " Of stable's 2,580 answers so far, only {compared} can be compared: the canary did not answer at the time of the \
                 others."
            )),
            "{text}"
        );
    }

    /// The counters of stable's pods fall at each scrape. The share rests on batches of all lengths, of which all ended
    /// at once only after the first.
    #[test]
    fn counters_that_cannot_be_compared_and_the_bound_of_the_share_are_explained() {
        let mut judge = Judge::new(Settings::default());
        for scrape in 0..5 {
            let window = |release, requests, restarted| Window {
                release,
                pod: format!("{release}-1").into(),
                since: 15.0 * f64::from(scrape),
                until: 15.0 * f64::from(scrape + 1),
                counts: Counts { requests, ..Counts::default() },
                restarted,
                is_warm_up: false,
                strata: Vec::new(),
                latencies: Vec::new(),
            };
            let of_canary = if scrape == 0 { 10 } else { 200 };
            judge.observe_scrapes([
                window(Release::Stable, 1000, true),
                window(Release::Canary, of_canary, false),
            ]);
        }
        let verdict = judge.verdict();
        let (text, shown) = (verdict.to_string(), |bound| percent_rounded(bound, f64::ceil));
        assert!(verdict.share_bound > 20.0 * verdict.promotion_bound, "{text}");
        let bound = shown(verdict.promotion_bound);
        assert!(
            text.contains(&format!(", so at most {bound} of its requests fail (the limit is 1 %)")),
            "{text}"
        );
        let (share, bound) = (percent_rounded(verdict.max_share, f64::floor), shown(verdict.share_bound));
        assert!(
            text.contains(&format!(
                " Of stable's 5,000 answers so far, none can be compared: the counters of a pod are not compared while they \
                 begin or fall, nor while the canary does not answer. At most {share} of the traffic for now: the share rests \
                 on complete batches only, and by these the canary may still fail {bound}."
            )),
            "{text}"
        );
        let capped = Verdict { max_share: MOST_ON_TRIAL, ..verdict }.to_string();
        assert!(
            capped.contains(
                " At most 50 % of the traffic for now: stable must still answer, to be compared with."
            ),
            "{capped}"
        );
    }

    #[test]
    fn answers_that_wait_are_named_and_none_is_denied() {
        let mut judge = judge(0, Success, Success);
        let canary = |outcome| Some(Request::new(Some(Release::Canary), outcome));
        judge.observe_numbered(1, canary(Failure));
        assert_eq!(
            judge.verdict().to_string(),
            "Not yet: none of the canary's answers is judged yet. At most 1 % of the traffic for now: the worst canary \
             still possible fails 100 %. 1 more answer of the canary waits for requests that were sent \
             at the same time. It has failed."
        );
        judge.observe_numbered(2, canary(Failure));
        assert!(judge.verdict().to_string().ends_with(" at the same time. All of them have failed."));
        judge.observe_numbered(3, canary(Success));
        assert!(judge.verdict().to_string().ends_with(
            "3 more answers of the canary wait for requests that were sent at the same time; 2 of them have failed."
        ));
    }

    #[test]
    fn a_canary_that_is_absent_is_not_promoted() {
        let good = judge(400, Success, Success).verdict();
        assert!(matches!(good.decision, Decision::Promote { .. }));
        let silent = good.clone().during(Some(Absence::Silent(Duration::from_millis(35_400))));
        assert_eq!(silent.decision, Decision::NotYet);
        assert!(
            silent.to_string().starts_with(
                "Not yet: the canary has not answered for 35s, and a promotion takes one that does. The canary has \
                 failed 0 of 399 requests, so at most 0.87 % of its requests fail (the limit is 1 %)"
            ),
            "{silent}"
        );
        let json = serde_json::to_value(&silent).unwrap();
        assert_eq!((&json["decision"], &json["absence"]["silent"]), (&"not_yet".into(), &35.into()));
        let restarted = good.clone().during(Some(Absence::Restarted)).to_string();
        assert!(restarted.starts_with("Not yet: a pod of the canary has just restarted"), "{restarted}");
        let bad = judge(6, Success, Failure).verdict().during(Some(Absence::Restarted));
        assert!(matches!(bad.decision, Decision::RollBack { .. }), "a roll-back stays");
        assert_eq!(good.clone().during(None), good);
    }

    #[test]
    fn numbers_have_a_comma_between_thousands() {
        let shown = [0, 999, 1000, 1_234_567, u64::MAX].map(count);
        assert_eq!(shown, ["0", "999", "1,000", "1,234,567", "18,446,744,073,709,551,615"]);
    }

    #[test]
    fn slow_answers_are_named_even_if_the_limit_is_the_sources_own() {
        let verdict = judge(6, Success, Outcome::Slow).verdict();
        assert!(
            verdict
                .to_string()
                .ends_with(" Slow answers count as failures: 6 of the canary's, 0 of stable's."),
            "{verdict}"
        );
    }

    /// The verdict on rounds of three answers of stable and one of the canary, with these latencies in milliseconds.
    fn timed(rounds: u64, stable: u64, canary: u64, slower_by: Option<f64>) -> Verdict {
        let slower_by = slower_by.map(|tolerance| Tolerance::new(tolerance).unwrap());
        let mut judge = Judge::new(Settings { slower_by, ..Settings::default() });
        for _ in 0..rounds {
            for (release, ms) in
                [Release::Stable; 3].map(|one| (one, stable)).into_iter().chain([(Release::Canary, canary)])
            {
                let latency = Some(Duration::from_millis(ms));
                judge.observe(Request::new(Some(release), Success).with_latency(latency));
            }
        }
        judge.end();
        judge.verdict()
    }

    #[test]
    fn a_slower_canary_is_rolled_back_only_with_a_tolerance_and_the_verdict_says_by_how_much() {
        let verdict = timed(400, 20, 45, None);
        let text = verdict.to_string();
        assert!(text.starts_with("Promote: "), "{text}");
        let slower = " Slower: 100 % of its answers take more than 40 ms, 0 % of stable's. Its median is 44.8 ms, \
                      stable's 20.1 ms.";
        assert!(text.contains(&format!("{slower} This decides nothing.")), "{text}");
        let latency = verdict.latency.unwrap();
        assert!(!latency.decides && !latency.rolled_back && latency.p_value < 0.05);
        assert!(verdict.p_value >= 1.0, "it is of the failures");

        let verdict = timed(400, 20, 45, Some(0.2));
        assert_eq!(
            verdict.to_string(),
            "Roll back: the canary is more than 20 % slower than stable (clear after 6 of its answers). It has failed 0 of \
             400 requests (between 0 % and 1.3 %), and stable 0 of 1,200 requests (between 0 % and 0.47 %). Slower: 100 % of \
             its answers take more than 30 ms, 0 % of stable's more than 25 ms. Its median is 44.8 ms, stable's 20.1 ms."
        );
        let json = serde_json::to_value(&verdict).unwrap();
        assert_eq!((&json["decision"], &json["latency"]["rolled_back"]), (&"roll_back".into(), &true.into()));
        assert_eq!(json["latency"]["slower"]["canary_share"], 1.0);
        assert_eq!(json["settings"]["slower_by"], 0.2);
    }

    #[test]
    fn a_promotion_says_whether_it_covers_latency() {
        for (stable, canary, slower_by, end) in [
            (20, 20, Some(0.2), " It is not shown to be more than 20 % slower than stable."),
            (20, 20, Some(0.0), " It is not shown to be slower than stable."),
            (20, 20, None, " Its latency decides nothing."),
        ] {
            let text = timed(450, stable, canary, slower_by).to_string();
            assert!(text.starts_with("Promote: ") && text.contains(end), "{text}");
        }
        let unknown = judge(400, Success, Success).verdict();
        assert!(unknown.to_string().contains(" Its latency was not compared with stable's."), "{unknown}");
        assert_eq!(unknown.latency, None);
    }

    #[test]
    fn times_have_few_digits() {
        let shown = [0.004, 0.31, 1.0, 1.6, 20.2, 80.0, 250.0, 999.6, 1600.0, 63_000.0].map(milliseconds);
        assert_eq!(
            shown,
            [
                "<0.01 ms", "0.31 ms", "1 ms", "1.6 ms", "20.2 ms", "80 ms", "250 ms", "1000 ms", "1.6 s",
                "63 s"
            ]
        );
    }

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
        assert_eq!(percent(0.0), "0 %");
        assert_eq!(percent_rounded(1e-12, f64::ceil), "0.0001 %", "an upper bound is never 0");
        assert_eq!((about(0.0), about(1e-9)), ("0 %".to_owned(), "less than 0.0001 %".to_owned()));
        assert_eq!((about(0.9997), about(1.0)), ("more than 99 %".to_owned(), "100 %".to_owned()));
    }
}
