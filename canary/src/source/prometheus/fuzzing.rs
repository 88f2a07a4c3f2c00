//! Rounds of queries for the fuzz targets, which are a package of their own: they answer instead of a Prometheus.

use hyper::{StatusCode, body::Bytes};

use super::{
    Options,
    client::{Answer, MetricType, TIME},
    round::{self, Trouble},
    samples::Room,
};
use crate::source::Interval;

/// Rounds of queries, one after the other.
pub struct Rounds(round::Rounds);

impl Rounds {
    /// # Errors
    /// If an option cannot be used.
    pub fn new(options: &Options) -> Result<Self, String> {
        round::Rounds::new(options).map(Self)
    }

    /// One round: `answer` is called with each question, and returns a status and a body.
    ///
    /// # Errors
    /// What is shown if the answers cannot be used.
    pub fn round(
        &mut self,
        mut answer: impl FnMut(&str) -> (StatusCode, Vec<u8>),
    ) -> Result<Option<Interval>, String> {
        self.take(&mut answer).map_err(|trouble| trouble.text)
    }

    fn take(
        &mut self,
        answer: &mut dyn FnMut(&str) -> (StatusCode, Vec<u8>),
    ) -> Result<Option<Interval>, Trouble> {
        let Self(rounds) = self;
        let mut ask = |question: &str| {
            let (status, body) = answer(question);
            (question.to_owned(), status, Bytes::from(body))
        };
        let mut parsed = |question: &str| {
            let (question, status, body) = ask(question);
            Answer::new(question, status, body)
        };
        let time = parsed(TIME)?.time()?;
        let (mut found, mut room) = (Vec::new(), Room::new());
        for (kind, selector) in rounds.queries.selectors() {
            let series = parsed(&selector)?.samples(&mut room)?;
            found.push((kind, selector, series));
        }
        let found = rounds.checked(found)?;
        let mut types = Vec::new();
        for name in rounds.unknown(&found)? {
            let (question, status, body) = ask("metadata");
            types.push((MetricType::of(&name, question, status, body)?, name));
        }
        rounds.check_types(types, &found)?;
        Ok(rounds.count(time, found))
    }
}
