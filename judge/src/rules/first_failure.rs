use super::Rule;
use crate::Release;

/// Roll back when the canary fails once, as a smoke test after a deployment does.
#[derive(Clone, Copy, Debug, Default)]
pub struct FirstFailure;

impl Rule for FirstFailure {
    fn observe(&mut self, release: Release, failed: bool, _seconds: f64) -> bool {
        release == Release::Canary && failed
    }
}
