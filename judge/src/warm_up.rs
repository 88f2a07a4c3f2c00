//! The answers of pods that have just started: the comparison and the promotion leave them out, but a canary that fails all
//! of them is rolled back.
//!
//! # The test
//!
//! What is left out depends on a pod and the time, and never on an outcome, so the rest is as fair a sample as before.
//!
//! For what is left out, the null hypothesis is that each answer of the canary fails with a probability of at most
//! [`MAY_FAIL`], whatever came before it, outside of [incidents](crate::incident) of stable. A canary that is merely cold is
//! one of these, and only one that is dead is far from them. The alternative is that it fails always. The likelihood ratio
//! is (1 / `MAY_FAIL`)^n after n failures and no success, and 0 after a success: a test supermartingale, and a single good
//! answer ends it. Only stable's answers decide what an incident is, so leaving out its answers changes nothing about that
//! (see [`crate::incident`]). Slow answers count as good ones here: being slow at first is what a warm-up is for.
//!
//! This test has [a part of α](alpha::WARM_UP) of its own. It does not decide before [`WarmUp::trust`] says that it has
//! lasted for some time: a pod that fails all requests of its first second is not dead. To wait only takes away decisions.

use std::f64::consts::LN_2;

use serde::{Deserialize, Serialize};

use crate::{
    Batch, Counts, Release, alpha, by_limit::ByLimit, order::Request, real, scrapes::Window,
    settings::Settings,
};

/// What is left out, and the evidence from it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct WarmUp {
    /// What is left out.
    left_out: Batch,
    /// The canary's part of it beside all answers of stable, without those in incidents.
    beside_stable: ByLimit,
    /// Requests until stable has answered [`ANSWERS_OF_STABLE`] of them.
    open: Batch,
    is_trusted: bool,
    peak_ln_e_value: f64,
}

/// The logarithm of 1 / `MAY_FAIL`, where `MAY_FAIL` is a half.
const LN_FACTOR: f64 = LN_2;
/// Two failures of stable in a row begin an incident, so the canary's answers wait for two answers of stable.
const ANSWERS_OF_STABLE: u64 = 2;

impl WarmUp {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            left_out: Batch::default(),
            beside_stable: ByLimit::new(settings),
            open: Batch::default(),
            is_trusted: false,
            peak_ln_e_value: 0.0,
        }
    }

    /// What is left out so far.
    pub(crate) fn left_out(&self) -> Batch {
        self.left_out
    }

    /// Adds the next request in the order of sending. Whether it is left out.
    pub(crate) fn observe(&mut self, request: Request<'_>) -> bool {
        let Request { release, outcome, is_warm_up, .. } = request;
        if is_warm_up {
            self.left_out.record(release, outcome);
        }
        if release == Some(Release::Stable) || is_warm_up {
            self.open.record(release, outcome);
        }
        if self.open.stable.requests >= ANSWERS_OF_STABLE {
            self.close();
        }
        is_warm_up
    }

    fn close(&mut self) {
        self.beside_stable.observe(std::mem::take(&mut self.open));
        self.look();
    }

    /// Adds a window between two scrapes. Whether it is left out.
    pub(crate) fn observe_window(&mut self, window: &Window) -> bool {
        let Window { release, counts, is_warm_up, .. } = *window;
        if is_warm_up {
            self.left_out.add(release, counts);
        }
        if is_warm_up || release == Release::Stable {
            self.beside_stable.observe_window(window);
        }
        is_warm_up
    }

    /// All pods were scraped until this time.
    pub(crate) fn settle(&mut self, scraped: f64) {
        self.beside_stable.settle(scraped);
        self.look();
    }

    /// From now on, the evidence decides.
    pub(crate) fn trust(&mut self) {
        self.is_trusted = true;
        self.look();
    }

    /// No more outcomes will come.
    pub(crate) fn end(&mut self) {
        self.close();
        self.settle(f64::INFINITY);
        self.trust();
    }

    /// The canary's part of it on which the evidence rests.
    pub(crate) fn canary(&self) -> Counts {
        self.beside_stable.outside().canary
    }

    fn look(&mut self) {
        let canary = self.canary();
        if self.is_trusted && canary.requests > 0 && canary.failures - canary.slow == canary.requests {
            let ln_e_value = real(canary.requests) * LN_FACTOR + alpha::WARM_UP.ln();
            self.peak_ln_e_value = self.peak_ln_e_value.max(ln_e_value);
        }
    }

    /// The logarithm of the greatest e-value so far, times the part of α, since it decides: at ln(1/α), the canary is dead.
    pub(crate) fn peak_ln_e_value(&self) -> f64 {
        self.peak_ln_e_value
    }
}
