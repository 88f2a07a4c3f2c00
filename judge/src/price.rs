//! The cost of a canary, in failed requests and as a share of a month's error budget.

use std::slice;

use serde::{Deserialize, Serialize};

use crate::numbers::{Fraction, Traffic};
use crate::{Batch, real};

/// A service's error budget: the number of requests that it may fail in a month.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct Budget {
    /// The traffic of the whole service.
    pub traffic: Traffic,
    /// The service level objective: the share of requests that must succeed.
    pub slo: Fraction,
}

impl Budget {
    /// The length of the month, in seconds: 30 days.
    const MONTH: f64 = 30.0 * 24.0 * 60.0 * 60.0;

    /// The number of requests that may fail in a month: (1 − SLO) × traffic × 30 days.
    pub fn failed_requests(self) -> f64 {
        (1.0 - self.slo.get()) * self.traffic.get() * Self::MONTH
    }
}

/// The cost of a canary: the requests that failed because of it.
///
/// ```text
/// failed requests = (canary's failure rate − stable's failure rate) × canary's requests × scale
/// unattributed    = failures that name no release × scale
/// scale           = requests that the service got in that time / requests that canary saw
/// ```
///
/// The difference is an estimate. If stable fails more often than the canary, the price is 0; it is never
/// negative. Failures that name no release may belong to either release, so they are not part of the price and
/// are counted separately. The error budget is defined as in "The Site Reliability Workbook" (B. Beyer et al.,
/// 2018), chapter 2.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Price {
    /// Failed requests of the whole traffic that would have succeeded at stable; at least 0.
    pub failed_requests: f64,
    /// Failed requests of the whole traffic that name no release.
    pub unattributed_failed_requests: f64,
    /// `failed_requests` as a share of a month's error budget: 1 is the whole budget, and more than 1 is possible.
    /// `None` if the service's traffic is not known.
    pub budget_share: Option<f64>,
}

impl Price {
    /// The price of the requests in `seen`. Each of them stands for `scale` requests of the service. `None` before
    /// stable has answered, because a comparison needs its failure rate.
    pub fn new(seen: &Batch, scale: f64, budget: Option<Budget>) -> Option<Self> {
        Self::of_strata(slice::from_ref(seen), scale, budget)
    }

    /// The same for requests that are divided into strata: each is compared with stable's rate in its stratum. A stratum in
    /// which stable has not answered has no price.
    pub fn of_strata(strata: &[Batch], scale: f64, budget: Option<Budget>) -> Option<Self> {
        let excess = |seen: &Batch| {
            let more = seen.canary.rate().unwrap_or(0.0) - seen.stable.rate()?;
            Some(more * real(seen.canary.requests))
        };
        let excesses: Vec<_> = strata.iter().filter_map(excess).collect();
        if excesses.is_empty() {
            return None;
        }
        let failed_requests = excesses.iter().sum::<f64>().max(0.0) * scale;
        let unattributed: u64 = strata.iter().map(|seen| seen.unattributed).sum();
        Some(Self {
            failed_requests,
            unattributed_failed_requests: real(unattributed) * scale,
            budget_share: budget.map(|budget| failed_requests / budget.failed_requests()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, counts};

    fn budget() -> Budget {
        Budget { traffic: Traffic::new(100.0).unwrap(), slo: Fraction::new(0.999).unwrap() }
    }

    #[test]
    fn the_price_is_a_share_of_the_months_budget() {
        let seen = Batch { stable: counts(0, 75), canary: counts(25, 25), unattributed: 0 };
        // 100 requests seen in a minute of 100 requests a second
        let price = Price::new(&seen, 60.0, Some(budget())).unwrap();
        // a quarter of 6,000 requests, of 0.1 % of 259,200,000 in a month
        assert!((price.failed_requests - 1500.0).abs() < 1e-6);
        assert!((price.budget_share.unwrap() - 1500.0 / 259_200.0).abs() < 1e-9);
    }

    #[test]
    fn failures_that_name_no_release_are_not_part_of_the_price() {
        let seen = Batch { stable: counts(0, 750), canary: counts(0, 240), unattributed: 10 };
        let price = Price::new(&seen, 1.0, Some(budget())).unwrap();
        assert_eq!((price.failed_requests, price.unattributed_failed_requests), (0.0, 10.0));
    }

    #[test]
    fn a_canary_better_than_stable_costs_nothing() {
        let seen = Batch { stable: counts(21, 21), canary: counts(0, 7), unattributed: 0 };
        let price = Price::new(&seen, 1.0, None).unwrap();
        assert_eq!((price.failed_requests, price.budget_share), (0.0, None));
    }

    /// The canary's clients use the bad path more.
    #[test]
    fn each_stratum_has_a_price_by_its_own_rate() {
        let strata = [
            Batch { stable: counts(10, 100), canary: counts(20, 200), unattributed: 1 },
            Batch { stable: counts(0, 900), canary: counts(1, 100), unattributed: 2 },
            Batch { canary: counts(5, 5), ..Batch::default() },
        ];
        let price = Price::of_strata(&strata, 1.0, None).unwrap();
        assert_close(price.failed_requests, 1.0);
        assert_close(price.unattributed_failed_requests, 3.0);
        assert_eq!(Price::of_strata(&strata[2..], 1.0, None), None);
    }

    #[test]
    fn the_price_is_unknown_before_stable_has_answered() {
        let seen = Batch { canary: counts(1, 1), ..Batch::default() };
        assert_eq!(Price::new(&seen, 1.0, Some(budget())), None);
    }
}
