//! The series in an answer, and the memory that the answers of one round may take.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor},
};

use super::counters::Sample;
use crate::source::shown;

/// The labels and raw samples of one series.
#[derive(Debug)]
pub(super) struct RawSeries {
    pub(super) labels: BTreeMap<String, String>,
    /// Oldest first. Empty for a native histogram.
    pub(super) samples: Vec<Sample>,
}

/// A sample: a time, and a number as text, because JSON has no `NaN`.
#[derive(Deserialize)]
pub(super) struct Value {
    pub(super) time: f64,
    #[serde(deserialize_with = "number")]
    pub(super) value: f64,
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    let Text(text) = Text::deserialize(deserializer)?;
    text.parse().map_err(|_| de::Error::custom(format!("{:?} is not a number", shown::text(&text))))
}

/// The memory for the answers of one round, in bytes. It is enough for 10,000 series of eight labels that are scraped
/// every 15 seconds. A judge in a container with 128 MiB needs the rest for itself.
const MOST: usize = 16 << 20;
/// The maximum number of labels of a series. Prometheus' own limits are usually lower.
const MOST_LABELS: usize = 128;
/// The maximum number of samples of a series: those of an hour that is scraped every half second.
const MOST_SAMPLES: usize = 7200;

/// What a series, a label and a sample take beside their texts, while a round is worked on.
const SERIES: usize = 600;
const PER_LABEL: usize = 100;
const PER_SAMPLE: usize = 40;

/// Room for the series of one round.
pub(super) struct Room(usize);

impl Room {
    pub(super) fn new() -> Self {
        Self(MOST)
    }

    /// The series of a matrix: a JSON array.
    pub(super) fn read(&mut self, matrix: &str) -> Result<Vec<RawSeries>, serde_json::Error> {
        self.deserialize(&mut serde_json::Deserializer::from_str(matrix))
    }

    fn take(&mut self, Row { metric, values }: &Row) -> Result<(), String> {
        let texts: usize = metric.0.iter().map(|(key, value)| key.len() + 2 * value.len()).sum();
        let bytes = SERIES + texts + metric.0.len() * PER_LABEL + values.0.len() * PER_SAMPLE;
        self.0 = self.0.checked_sub(bytes).ok_or_else(|| {
            format!("these are too many series for {} MiB: select fewer with --metric", MOST >> 20)
        })?;
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for &mut Room {
    type Value = Vec<RawSeries>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for &mut Room {
    type Value = Vec<RawSeries>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array of series")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(row) = rows.next_element::<Row>()? {
            self.take(&row).map_err(de::Error::custom)?;
            let Row { metric: Labels(labels), values: Values(values) } = row;
            let is_native_histogram = values.is_empty();
            // VictoriaMetrics keeps Prometheus' stale markers
            let samples: Vec<_> = values.into_iter().filter(|sample| !sample.1.is_nan()).collect();
            if is_native_histogram || !samples.is_empty() {
                all.push(RawSeries { labels, samples });
            }
        }
        Ok(all)
    }
}

/// One series of a matrix.
#[derive(Deserialize)]
struct Row {
    metric: Labels,
    #[serde(default)]
    values: Values,
}

/// At most [`MOST_LABELS`] labels.
struct Labels(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Labels;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object of labels")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Labels, A::Error> {
                let mut labels = BTreeMap::new();
                while let Some((key, value)) = pairs.next_entry()? {
                    labels.insert(key, value);
                    if labels.len() > MOST_LABELS {
                        return Err(de::Error::custom(format!(
                            "a series has more than {MOST_LABELS} labels"
                        )));
                    }
                }
                Ok(Labels(labels))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// At most [`MOST_SAMPLES`] samples.
#[derive(Default)]
struct Values(Vec<Sample>);

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Samples;
        impl<'de> Visitor<'de> for Samples {
            type Value = Values;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an array of samples")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Values, A::Error> {
                let mut samples = Vec::new();
                while let Some(Value { time, value }) = values.next_element()? {
                    samples.push((time, value));
                    if samples.len() > MOST_SAMPLES {
                        let text =
                            format!("a series has more than {MOST_SAMPLES} samples in the time asked for");
                        return Err(de::Error::custom(text));
                    }
                }
                Ok(Values(samples))
            }
        }
        deserializer.deserialize_seq(Samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(labels: usize, samples: usize) -> String {
        let labels: Vec<_> = (0..labels).map(|number| format!(r#""l{number}":"v""#)).collect();
        let samples: Vec<_> = (0..samples).map(|time| format!(r#"[{time},"7"]"#)).collect();
        format!(r#"{{"metric":{{{}}},"values":[{}]}}"#, labels.join(","), samples.join(","))
    }

    fn read(all: &[String]) -> Result<Vec<RawSeries>, String> {
        Room::new().read(&format!("[{}]", all.join(","))).map_err(|error| error.to_string())
    }

    #[test]
    fn ten_thousand_usual_series_have_room_and_ten_times_as_many_do_not() {
        let usual = series(8, 8);
        let found = read(&vec![usual.clone(); 8000]).expect("there is room");
        assert_eq!((found.len(), found[0].labels.len(), found[0].samples.len()), (8000, 8, 8));
        assert_eq!(found[0].samples[7], (7.0, 7.0));
        let error = read(&vec![usual; 100_000]).expect_err("too many");
        assert!(error.starts_with("these are too many series for 16 MiB"), "{error}");
    }

    #[test]
    fn the_answers_of_a_round_share_the_room() {
        let (mut room, answer) = (Room::new(), format!("[{}]", vec![series(8, 8); 5000].join(",")));
        assert_eq!(room.read(&answer).expect("there is room").len(), 5000);
        assert!(room.read(&answer).is_err());
    }

    #[test]
    fn one_series_is_bounded() {
        assert!(read(&[series(MOST_LABELS, MOST_SAMPLES)]).is_ok());
        assert!(read(&[series(MOST_LABELS + 1, 1)]).expect_err("labels").contains("128 labels"));
        assert!(read(&[series(1, MOST_SAMPLES + 1)]).expect_err("samples").contains("7200 samples"));
    }

    #[test]
    fn what_is_no_number_is_refused_and_stale_markers_are_left_out() {
        let of = |value: &str| read(&[format!(r#"{{"metric":{{}},"values":[[1,"2"],[2,"{value}"]]}}"#)]);
        assert!(of("x").expect_err("no number").starts_with("\"x\" is not a number"));
        assert_eq!(of("NaN").expect("a marker")[0].samples, [(1.0, 2.0)]);
        assert!(read(&[series(1, 0)]).expect("a native histogram")[0].samples.is_empty());
    }
}
