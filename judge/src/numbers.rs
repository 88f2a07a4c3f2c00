//! The numbers in a judge's settings, each with its valid range.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A number strictly between 0 and 1: a level, a rate, an objective. It is written as a number (`0.01`) or in per
/// cent (`1%`).
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(try_from = "f64")]
pub struct Fraction(f64);

impl TryFrom<f64> for Fraction {
    type Error = InvalidNumber;

    fn try_from(value: f64) -> Result<Self, Self::Error> {
        Self::new(value)
    }
}

/// The error of an invalid [`Fraction`], [`Ratio`], [`Tolerance`], [`Traffic`] or [`Burn`].
#[derive(Clone, Debug, PartialEq, Error)]
pub enum InvalidNumber {
    /// The text is not a number.
    #[error("{0:?} is not a number")]
    NotANumber(String),
    /// The number is not a [`Fraction`].
    #[error("{0} does not lie strictly between 0 and 1 (0 % and 100 %)")]
    NotAFraction(f64),
    /// The number is not a [`Ratio`].
    #[error("{0} is not a finite number of at least 1")]
    NotARatio(f64),
    /// The number is not a [`Tolerance`].
    #[error("{0} does not lie between 0 and 10 (0 % and 1000 %)")]
    NotATolerance(f64),
    /// The number is not a [`Traffic`].
    #[error("{0} is not a positive number of requests a second")]
    NotATraffic(f64),
    /// The number is not a [`Burn`].
    #[error("{0} is not a positive number")]
    NotABurn(f64),
}

fn number(text: &str) -> Result<f64, InvalidNumber> {
    text.trim().parse().map_err(|_| InvalidNumber::NotANumber(text.to_owned()))
}

impl Fraction {
    /// 0.05.
    pub(super) const FIVE_PERCENT: Self = Self(0.05);
    /// 0.01.
    pub(super) const ONE_PERCENT: Self = Self(0.01);
    /// 0.999.
    pub(super) const THREE_NINES: Self = Self(0.999);

    /// The fraction `value`.
    ///
    /// # Errors
    ///
    /// When `value` does not lie strictly between 0 and 1.
    pub fn new(value: f64) -> Result<Self, InvalidNumber> {
        if value > 0.0 && value < 1.0 { Ok(Self(value)) } else { Err(InvalidNumber::NotAFraction(value)) }
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl FromStr for Fraction {
    type Err = InvalidNumber;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim().strip_suffix('%') {
            Some(percent) => Self::new(number(percent)? / 100.0),
            None => Self::new(number(text)?),
        }
    }
}

/// A ratio of two failure rates, at least 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(try_from = "f64")]
pub struct Ratio(f64);

impl TryFrom<f64> for Ratio {
    type Error = InvalidNumber;

    fn try_from(value: f64) -> Result<Self, Self::Error> {
        Self::new(value)
    }
}

impl Ratio {
    /// 2.
    pub(super) const TWICE: Self = Self(2.0);

    /// The ratio `value`.
    ///
    /// # Errors
    ///
    /// When `value` is not finite, or is less than 1.
    pub fn new(value: f64) -> Result<Self, InvalidNumber> {
        if value.is_finite() && value >= 1.0 { Ok(Self(value)) } else { Err(InvalidNumber::NotARatio(value)) }
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl FromStr for Ratio {
    type Err = InvalidNumber;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(number(text)?)
    }
}

/// By how much more than stable the canary may have of something, as a part of what stable has: from 0 to 10. It is written
/// as a number (`0.2`) or in per cent (`20%`).
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(try_from = "f64")]
pub struct Tolerance(f64);

impl TryFrom<f64> for Tolerance {
    type Error = InvalidNumber;

    fn try_from(value: f64) -> Result<Self, Self::Error> {
        Self::new(value)
    }
}

impl Tolerance {
    /// The tolerance `value`.
    ///
    /// # Errors
    ///
    /// When `value` does not lie between 0 and 10.
    pub fn new(value: f64) -> Result<Self, InvalidNumber> {
        if (0.0..=10.0).contains(&value) { Ok(Self(value)) } else { Err(InvalidNumber::NotATolerance(value)) }
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl FromStr for Tolerance {
    type Err = InvalidNumber;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim().strip_suffix('%') {
            Some(percent) => Self::new(number(percent)? / 100.0),
            None => Self::new(number(text)?),
        }
    }
}

/// The requests per second that a service gets: a positive number.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(try_from = "f64")]
pub struct Traffic(f64);

impl TryFrom<f64> for Traffic {
    type Error = InvalidNumber;

    fn try_from(value: f64) -> Result<Self, Self::Error> {
        Self::new(value)
    }
}

impl Traffic {
    /// The traffic of `requests_a_second`.
    ///
    /// # Errors
    ///
    /// When the number is not finite and positive.
    pub fn new(requests_a_second: f64) -> Result<Self, InvalidNumber> {
        if requests_a_second.is_finite() && requests_a_second > 0.0 {
            Ok(Self(requests_a_second))
        } else {
            Err(InvalidNumber::NotATraffic(requests_a_second))
        }
    }

    /// The requests per second.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl FromStr for Traffic {
    type Err = InvalidNumber;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(number(text)?)
    }
}

/// How many times as fast as allowed the error budget is burnt: a positive number. At 1, a month's budget lasts a month.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(try_from = "f64")]
pub struct Burn(f64);

impl TryFrom<f64> for Burn {
    type Error = InvalidNumber;

    fn try_from(value: f64) -> Result<Self, Self::Error> {
        Self::new(value)
    }
}

impl Burn {
    /// The burn rate `value`.
    ///
    /// # Errors
    ///
    /// When `value` is not finite and positive.
    pub fn new(value: f64) -> Result<Self, InvalidNumber> {
        if value.is_finite() && value > 0.0 { Ok(Self(value)) } else { Err(InvalidNumber::NotABurn(value)) }
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl FromStr for Burn {
    type Err = InvalidNumber;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(number(text)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_is_a_number_or_in_per_cent() {
        assert_eq!("0.01".parse(), Fraction::new(0.01));
        assert_eq!(" 1 % ".parse(), Fraction::new(0.01));
        let error = |text: &str| text.parse::<Fraction>().unwrap_err().to_string();
        assert_eq!(error("one"), "\"one\" is not a number");
        assert_eq!(error("0"), "0 does not lie strictly between 0 and 1 (0 % and 100 %)");
        assert_eq!(error("100%"), "1 does not lie strictly between 0 and 1 (0 % and 100 %)");
        assert_eq!(error("NaN"), "NaN does not lie strictly between 0 and 1 (0 % and 100 %)");
    }

    #[test]
    fn a_ratio_is_finite_and_at_least_one() {
        assert_eq!("2.5".parse(), Ratio::new(2.5));
        for text in ["0.9", "-2", "inf", "NaN"] {
            assert!(matches!(text.parse::<Ratio>(), Err(InvalidNumber::NotARatio(_))), "{text}");
        }
    }

    #[test]
    fn a_burn_rate_is_positive_and_finite() {
        assert_eq!("0.5".parse(), Burn::new(0.5));
        for text in ["0", "-1", "inf", "NaN"] {
            assert!(matches!(text.parse::<Burn>(), Err(InvalidNumber::NotABurn(_))), "{text}");
        }
    }

    #[test]
    fn traffic_is_positive_and_finite() {
        assert_eq!("250".parse(), Traffic::new(250.0));
        for text in ["0", "-1", "inf", "NaN"] {
            assert!(matches!(text.parse::<Traffic>(), Err(InvalidNumber::NotATraffic(_))), "{text}");
        }
    }
}
