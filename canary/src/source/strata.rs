//! What divides requests into strata: the flags, and the names.

use std::{fmt, str::FromStr, sync::Arc};

use clap::Args;

use super::{opened::OTHER, shown};
use crate::foreign;

/// The group of the flags that divide requests.
pub(crate) const DIVIDING: &str = "dividing";

/// What divides requests. Only requests of the same kind are compared.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Requests")]
pub struct StrataFlags {
    /// Compare the releases only in requests with the same value of this key, such as path: a label of Prometheus, or a key of
    /// the lines with outcomes; may be repeated. A request must have it whatever release answers
    #[arg(long, value_name = "KEY", value_parser = key, requires = OTHER, group = DIVIDING)]
    pub by: Vec<String>,

    /// The path of the requests; may be repeated. With several, each request has one of them at random, and the releases are
    /// compared within each. /cart:3 is sent three times as often as /. The default is that of the URL; for pods, that of
    /// the readiness probe, or /
    #[arg(long = "path", value_name = "PATH", conflicts_with = OTHER, group = DIVIDING)]
    pub paths: Vec<WeightedPath>,
}

fn key(text: &str) -> Result<String, &'static str> {
    if text.is_empty() { Err("want a key, such as path") } else { Ok(text.to_owned()) }
}

/// The name of a stratum, from the values of its keys. It is bounded and safe to show.
pub(crate) fn name<'a>(values: impl IntoIterator<Item = Option<&'a str>>) -> Arc<str> {
    let values: Vec<_> =
        values.into_iter().map(|value| value.filter(|it| !it.is_empty()).unwrap_or("(none)")).collect();
    foreign::bounded(&values.join(" "), foreign::STRATUM).into()
}

/// The name of the stratum of a path. The values of its query may be secrets, and are not shown. So it has a number if the
/// name of an earlier path would be the same.
fn name_of_path(path: &str, earlier: &[WeightedPath]) -> Arc<str> {
    let of = |path: &str| name([Some(shown::path_and_query(path).as_str())]);
    let own = of(path);
    match earlier.iter().filter(|other| of(&other.path) == own).count() {
        0 => own,
        same => {
            let number = format!(" ({})", same + 1);
            (foreign::bounded(&own, foreign::STRATUM - number.len()) + &number).into()
        }
    }
}

/// A path, and how often it is sent compared with others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedPath {
    /// The path, with a query if it has one.
    pub path: String,
    /// At least 1.
    pub weight: u32,
}

impl FromStr for WeightedPath {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let weighted = text.rsplit_once(':').and_then(|(path, weight)| Some((path, weight.parse().ok()?)));
        let (path, weight) = weighted.unwrap_or((text, 1));
        if !is_path(path) {
            return Err(
                "want a path that begins with /, as in /v1/cart?id=7, or with a weight, as in /v1/cart:3",
            );
        }
        if !(1..=MOST_WEIGHT).contains(&weight) {
            return Err("want a weight from 1 to 1000000");
        }
        Ok(Self { path: path.to_owned(), weight })
    }
}

const MOST_WEIGHT: u32 = 1_000_000;

/// Whether this is a path, with or without a query, that stays below the place where it is appended.
pub(crate) fn is_path(text: &str) -> bool {
    let climbs = text.split('?').next().is_some_and(|path| path.split('/').any(|part| part == ".."));
    text.starts_with('/') && !text.contains('#') && text.parse::<hyper::Uri>().is_ok() && !climbs
}

/// Without the values of its query, which may be secrets.
impl fmt::Display for WeightedPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = shown::path_and_query(&self.path);
        match self.weight {
            1 => f.write_str(&path),
            weight => write!(f, "{path}:{weight}"),
        }
    }
}

/// Draws paths at random, before a request is sent. Each is a stratum, if there are several.
#[derive(Clone, Debug)]
pub(crate) struct Paths<T> {
    paths: Vec<(u64, Path<T>)>,
    /// The sum of all weights.
    sum: u64,
}

/// A path to ask.
#[derive(Clone, Debug)]
pub(crate) struct Path<T> {
    pub(crate) path: T,
    /// `None` if there is only one path.
    pub(crate) stratum: Option<Arc<str>>,
}

impl<T> Paths<T> {
    /// One path, which does not divide requests.
    pub(crate) fn one(path: T) -> Self {
        Self { paths: vec![(1, Path { path, stratum: None })], sum: 1 }
    }

    /// These paths, if there are any.
    ///
    /// # Errors
    /// If one of them is not a `T`, or occurs twice.
    pub(crate) fn of(
        flags: &[WeightedPath],
        of: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<Self>, String> {
        let mut paths = Vec::new();
        let mut sum = 0;
        for (place, WeightedPath { path, weight }) in flags.iter().enumerate() {
            if flags[..place].iter().any(|other| other.path == *path) {
                return Err(format!("--path {} is given twice", shown::path_and_query(path)));
            }
            sum += u64::from(*weight);
            let stratum = (flags.len() > 1).then(|| name_of_path(path, &flags[..place]));
            paths.push((sum, Path { path: of(path)?, stratum }));
        }
        Ok((!paths.is_empty()).then_some(Self { paths, sum }))
    }

    /// The number of paths.
    pub(crate) fn count(&self) -> usize {
        self.paths.len()
    }

    /// One of them, at random.
    pub(crate) fn draw(&self) -> &Path<T> {
        let at = fastrand::u64(..self.sum);
        let place = self.paths.partition_point(|(until, _)| *until <= at);
        &self.paths[place].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_may_have_a_weight() {
        for (text, path, weight) in [
            ("/", "/", 1),
            ("/cart:3", "/cart", 3),
            ("/v1/cart?id=7", "/v1/cart?id=7", 1),
            ("/a:b", "/a:b", 1),
            ("/a:8080:1", "/a:8080", 1),
        ] {
            assert_eq!(text.parse(), Ok(WeightedPath { path: path.to_owned(), weight }), "{text}");
        }
        for bad in ["", "cart", "/a/../b", "/a#b", "/a:0", "/a b", "http://a/", "/a:1000001", "/..?x"] {
            assert!(bad.parse::<WeightedPath>().is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_are_drawn_by_their_weights_and_each_is_a_stratum() {
        let flags = ["/a", "/b:3"].map(|text| text.parse().expect("a path"));
        let paths = Paths::of(&flags, |path| Ok(path.to_owned())).expect("two").expect("two");
        let mut counts = [0_u32; 2];
        for _ in 0..4_000 {
            let drawn = paths.draw();
            assert_eq!(drawn.stratum.as_deref(), Some(drawn.path.as_str()));
            counts[usize::from(drawn.path == "/b")] += 1;
        }
        assert!((850..1150).contains(&counts[0]), "{counts:?}");
        let one = Paths::of(&flags[..1], |path| Ok(path.to_owned())).expect("one").expect("one");
        assert_eq!((one.draw().path.as_str(), &one.draw().stratum), ("/a", &None));
        assert!(Paths::of(&[], |path| Ok(path.to_owned())).expect("none").is_none());
        let twice = ["/a", "/a:3"].map(|text| text.parse().expect("a path"));
        assert!(Paths::of(&twice, |path| Ok(path.to_owned())).is_err_and(|error| error.contains("twice")));
    }

    #[test]
    fn paths_that_differ_only_in_what_is_not_shown_are_strata_of_their_own() {
        let long = format!("/{}", "x".repeat(1000));
        let texts = ["/a?id=1", "/a?id=2", "/b", "/a?id=3", &long, &format!("{long}y")];
        let flags = texts.map(|text| text.parse::<WeightedPath>().expect("a path"));
        let paths = Paths::of(&flags, |path| Ok(path.to_owned())).expect("six").expect("six");
        let names: Vec<_> = paths.paths.iter().filter_map(|(_, one)| one.stratum.as_deref()).collect();
        assert_eq!(names[..4], ["/a?id=***", "/a?id=*** (2)", "/b", "/a?id=*** (3)"]);
        assert!(names[4] != names[5] && names[5].ends_with("… (2)"), "{names:?}");
        assert!(names.iter().all(|name| name.len() <= foreign::STRATUM), "{names:?}");
    }

    #[test]
    fn the_values_of_a_query_are_not_shown() {
        let path: WeightedPath = "/a?token=S3CRET:2".parse().expect("a path");
        assert_eq!(path.to_string(), "/a?token=***:2");
        let error = Paths::of(&[path.clone(), path], |path| Ok(path.to_owned())).expect_err("twice");
        assert_eq!(error, "--path /a?token=*** is given twice");
    }

    #[test]
    fn a_name_is_safe_and_bounded_and_says_what_is_missing() {
        assert_eq!(&*name([Some("GET"), None, Some("")]), "GET (none) (none)");
        assert_eq!(&*name([Some("/\u{1b}[2J")]), "/\\u{1b}[2J");
        assert_eq!(name([Some("x".repeat(1000).as_str())]).len(), foreign::STRATUM);
    }
}
