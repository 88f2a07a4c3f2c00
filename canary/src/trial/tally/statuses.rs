//! The status codes of answers.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// The number of answers by status code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Statuses(BTreeMap<u16, u64>);

impl Statuses {
    /// Counts an answer.
    pub(super) fn count(&mut self, status: u16) {
        *self.0.entry(status).or_default() += 1;
    }

    /// Whether all answers have a status of success.
    pub fn are_good(&self) -> bool {
        self.0.keys().all(|status| (200..300).contains(status))
    }
}

/// The codes with their numbers, the most frequent first: `404 (12), 200 (3)`.
impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all: Vec<_> = self.0.iter().collect();
        all.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let all: Vec<_> = all.into_iter().map(|(status, count)| format!("{status} ({count})")).collect();
        f.write_str(&all.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_status_comes_first() {
        let mut statuses = Statuses::default();
        for status in [200, 404, 503, 404, 503] {
            assert!(statuses.are_good() || status != 200);
            statuses.count(status);
        }
        assert!(!statuses.are_good());
        assert_eq!(statuses.to_string(), "404 (2), 503 (2), 200 (1)");
        let json = serde_json::to_string(&statuses).expect("JSON");
        assert_eq!(json, r#"{"200":1,"404":2,"503":2}"#);
    }
}
