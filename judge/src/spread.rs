//! Whether the canary's pods fail more than pods of one release differ among themselves.
//!
//! If pods differ for lasting reasons (their node, clients that always reach the same pod), no number of requests tells a bad
//! release from a bad pod: only other pods do. Student's t-test takes pods as the observations. It compares the mean of the
//! canary's pods with that of stable's, by the spread of stable's.

use std::f64::consts::PI;

use crate::Counts;

/// The level of the test is α divided by this. It is made again and again, and a failure rate is not normal, so
/// its level was chosen by simulation.
const STRICTER: f64 = 5.0;

/// Whether the rate of the canary, which has so many pods, is greater than those of stable's pods by more than their spread
/// explains. Also true if fewer than two pods of stable are known: then there is no spread to compare with.
pub(crate) fn is_exceeded(stable: &[f64], canary: f64, pods: usize, alpha: f64) -> bool {
    if stable.len() < 2 {
        return true;
    }
    let usual = stable.iter().sum::<f64>() / stable.len() as f64;
    let freedom = stable.len() - 1;
    let squares: f64 = stable.iter().map(|rate| (rate - usual).powi(2)).sum();
    let parts = 1.0 / pods.max(1) as f64 + 1.0 / stable.len() as f64;
    let error = (squares / freedom as f64 * parts).sqrt();
    let difference = canary - usual;
    if error == 0.0 { difference > 0.0 } else { tail(difference / error, freedom) <= alpha / STRICTER }
}

/// The rates of the pods that have at least half as many answers as the mean of them. A pod that has just come shows no rate.
pub(crate) fn rates(pods: impl Iterator<Item = Counts> + Clone) -> Vec<f64> {
    let (sum, number) =
        pods.clone().fold((0.0, 0.0), |(sum, number), pod| (sum + crate::real(pod.requests), number + 1.0));
    pods.filter(|pod| 2.0 * crate::real(pod.requests) * number >= sum).filter_map(Counts::rate).collect()
}

/// P(T ≥ t) of Student's distribution (M. Abramowitz and I. A. Stegun, "Handbook of Mathematical Functions", 1964, 26.7.3 and
/// 26.7.4).
fn tail(t: f64, freedom: usize) -> f64 {
    let angle = (t / (freedom as f64).sqrt()).atan();
    let (sine, cosine) = angle.sin_cos();
    let is_odd = freedom % 2 == 1;
    let (mut term, first) = if is_odd { (cosine, 1) } else { (1.0, 0) };
    let mut sum = 0.0;
    for k in (first..freedom.saturating_sub(1)).step_by(2) {
        sum += term;
        term *= cosine * cosine * (k + 1) as f64 / (k + 2) as f64;
    }
    let between = if is_odd { 2.0 / PI * (angle + sine * sum) } else { sine * sum };
    (1.0 - between) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::counts;

    /// From a table of quantiles.
    #[test]
    fn the_tail_is_that_of_students_distribution() {
        for (freedom, five, one) in [
            (1, 6.3138, 31.8205),
            (2, 2.9200, 6.9646),
            (3, 2.3534, 4.5407),
            (4, 2.1318, 3.7469),
            (11, 1.7959, 2.7181),
        ] {
            assert!((tail(five, freedom) - 0.05).abs() < 1e-5, "{freedom}: {}", tail(five, freedom));
            assert!((tail(one, freedom) - 0.01).abs() < 1e-5, "{freedom}: {}", tail(one, freedom));
            assert!((tail(-five, freedom) - 0.95).abs() < 1e-5);
        }
    }

    #[test]
    fn the_canary_must_differ_more_than_stables_pods_do() {
        let stable = [0.04, 0.05, 0.07];
        assert!(!is_exceeded(&stable, 0.08, 1, 0.05), "as a pod of stable might");
        assert!(is_exceeded(&stable, 0.5, 1, 0.05));
        assert!(is_exceeded(&[0.0; 3], 0.01, 1, 0.05) && !is_exceeded(&[0.0; 3], 0.0, 1, 0.05));
        assert!(is_exceeded(&[0.04], 0.08, 1, 0.05), "one pod has no spread");
        let many = [0.02, 0.03, 0.04, 0.05, 0.06, 0.07];
        assert!(!is_exceeded(&many, 0.11, 1, 0.05) && is_exceeded(&many, 0.11, 2, 0.05), "two can tell");
    }

    #[test]
    fn a_pod_that_has_just_come_shows_no_rate() {
        let pods = [counts(5, 100), counts(0, 80), counts(1, 1)];
        assert_eq!(rates(pods.into_iter()), [0.05, 0.0]);
    }
}
