//! What a canary has cost, in failed requests and of a month's error budget.

use std::time::Duration;

use serde::Serialize;

use super::numbers::{Fraction, Traffic};

/// How many requests a service may fail in a month.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Budget {
    /// What the whole service gets.
    pub traffic: Traffic,
    /// The service level objective: the share of requests that must succeed.
    pub slo: Fraction,
}

impl Budget {
    /// The month that an error budget is for, in seconds: 30 days.
    const MONTH: f64 = 30.0 * 24.0 * 60.0 * 60.0;

    /// The failed requests that a month allows: (1 − SLO) × traffic × 30 days.
    pub fn failed_requests(self) -> f64 {
        (1.0 - self.slo.get()) * self.traffic.get() * Self::MONTH
    }
}

/// What a canary has cost: the requests that failed because it was there.
///
/// ```text
/// failed requests = (overall failure rate − stable failure rate) × traffic × seconds so far
/// budget share    = failed requests / ((1 − SLO) × traffic × 30 days)
/// ```
///
/// The overall rate takes in every request, those that name no release too. The budget is that of "The Site
/// Reliability Workbook" (B. Beyer et al., 2018), chapter 2. The difference is an estimate; where stable
/// fails more often than all requests together, the canary has cost nothing, and the price is 0, no credit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Price {
    /// Failed requests of the whole traffic that stable alone would not have had; at least 0.
    pub failed_requests: f64,
    /// The same as a share of a month's error budget: 1 is all of it, and it may be more.
    pub budget_share: f64,
}

impl Price {
    pub(super) fn new(
        overall_failure_rate: f64,
        stable_failure_rate: f64,
        budget: Budget,
        elapsed: Duration,
    ) -> Self {
        let excess = (overall_failure_rate - stable_failure_rate).max(0.0);
        let failed_requests = excess * budget.traffic.get() * elapsed.as_secs_f64();
        Self { failed_requests, budget_share: failed_requests / budget.failed_requests() }
    }
}
