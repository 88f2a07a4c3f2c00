//! The queries: `PromQL` selectors, made from the flags.

use std::{collections::BTreeSet, fmt, str::FromStr};

use regex_lite::Regex;

use super::counters::{Bound, Kind, Quantity};
use canary_judge::Release;

/// One label matcher of `PromQL`, as `status=~"5.."`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Matcher {
    label: String,
    operator: &'static str,
    /// As in the flag, with its quotes.
    value: String,
}

/// Label matchers, as between the braces of a selector: `label="value",…`. At least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matchers(Vec<Matcher>);

/// A metric's name and optional matchers: `NAME` or `NAME{label="value",…}`. Or several metrics, by matchers of the label
/// `__name__`: `{__name__=~"NAME|NAME",…}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Empty if matchers select the names.
    name: String,
    matchers: Vec<Matcher>,
}

/// Which series count failures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failures {
    /// Those of the counter of requests that these select.
    Among(Matchers),
    /// Those of a counter of their own.
    Own(Metric),
}

impl FromStr for Failures {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let among = text.parse().map(Self::Among);
        // a matcher has an operator where a metric ends or has its brace
        let own = || text.parse().ok().filter(|own: &Metric| !own.name.is_empty()).map(Self::Own);
        among.or_else(|error| own().ok_or(error))
    }
}

/// The label that holds a metric's name.
pub(super) const NAME: &str = "__name__";

/// A bucket of a classic histogram: a [`Metric`] whose name ends in `_bucket`, with a matcher of the label `le`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The histogram's name.
    name: String,
    le: Matcher,
    matchers: Vec<Matcher>,
}

/// A classic histogram of latencies: a [`Metric`], whose name may end in `_bucket`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latencies {
    /// The histogram's name.
    name: String,
    matchers: Vec<Matcher>,
}

impl FromStr for Latencies {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Metric { name, matchers } = text.parse()?;
        if name.is_empty() {
            return Err("want the name of one histogram, as in http_request_duration_seconds".to_owned());
        }
        if matchers.iter().any(|one| one.label == "le") {
            return Err("want all buckets of a histogram, without the label le".to_owned());
        }
        let name = name.strip_suffix("_bucket").unwrap_or(&name).to_owned();
        Ok(Self { name, matchers })
    }
}

impl Latencies {
    /// The number of seconds in the unit of its bounds: a millisecond if its name says so.
    fn unit(&self) -> f64 {
        let is_in_milliseconds =
            ["_ms", "_millis", "_milliseconds"].iter().any(|end| self.name.ends_with(end));
        if is_in_milliseconds { 1e-3 } else { 1.0 }
    }
}

impl FromStr for Matchers {
    type Err = String;

    /// Parses matchers, with or without braces around them. Prometheus itself checks regular expressions.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let inner = match text.strip_prefix('{') {
            Some(rest) => rest.strip_suffix('}').ok_or("there is no closing brace")?,
            None => text,
        };
        let matchers = matchers(inner)?;
        if matchers.is_empty() {
            return Err("there is no matcher: want LABEL=\"VALUE\", as in release=\"stable\"".to_owned());
        }
        Ok(Self(matchers))
    }
}

impl FromStr for Metric {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let (name, matchers) = match text.split_once('{') {
            Some((name, rest)) => {
                (name.trim(), matchers(rest.strip_suffix('}').ok_or("there is no closing brace")?)?)
            }
            None => (text, Vec::new()),
        };
        let names = matchers.iter().filter(|one| one.label == NAME).map(|one| one.operator);
        if name.is_empty() && names.clone().any(|operator| ["=", "=~"].contains(&operator)) {
            return Ok(Self { name: String::new(), matchers });
        }
        if !is_name(name, ":") {
            return Err(format!(
                "{name:?} is not the name of a metric: want NAME or NAME{{LABEL=\"VALUE\"}}, or for several metrics \
                 {{{NAME}=~\"NAME|NAME\"}}"
            ));
        }
        if names.count() > 0 {
            return Err(format!("there is the name {name} and the label {NAME}: want one of them"));
        }
        Ok(Self { name: name.to_owned(), matchers })
    }
}

impl FromStr for Bucket {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Metric { name, matchers } = text.parse()?;
        let wanted = || {
            "want one bucket of a histogram, as in http_request_duration_seconds_bucket{le=\"0.25\"}"
                .to_owned()
        };
        let name = name.strip_suffix("_bucket").ok_or_else(wanted)?.to_owned();
        let (le, matchers): (Vec<_>, Vec<_>) = matchers.into_iter().partition(|one| one.label == "le");
        match <[Matcher; 1]>::try_from(le) {
            Ok([le]) if le.operator == "=" => Ok(Self { name, le, matchers }),
            _ => Err(wanted()),
        }
    }
}

/// The names of labels and, with `:`, of metrics: <https://prometheus.io/docs/concepts/data_model/>.
fn is_name(text: &str, more: &str) -> bool {
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_' || more.contains(c);
    text.starts_with(is_first) && text.chars().all(|c| is_first(c) || c.is_ascii_digit())
}

/// Matchers separated by commas. A comma after the last one is allowed.
fn matchers(text: &str) -> Result<Vec<Matcher>, String> {
    let mut all = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (matcher, after) = matcher(rest)?;
        all.push(matcher);
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(next) => next.trim_start(),
            None if after.is_empty() => after,
            None => return Err(format!("want a comma before {after:?}")),
        };
    }
    Ok(all)
}

/// The matcher at the beginning of the text, and the rest of the text.
fn matcher(text: &str) -> Result<(Matcher, &str), String> {
    let end = text.find(['=', '!', '~', '"', ',']).unwrap_or(text.len());
    let (label, rest) = (text[..end].trim(), &text[end..]);
    if !is_name(label, "") {
        return Err(format!("{label:?} is not the name of a label: want LABEL=\"VALUE\""));
    }
    // the longer ones first, because `=~` also begins with `=`
    let operator = ["=~", "!~", "!=", "="].into_iter().find(|operator| rest.starts_with(operator));
    let operator = operator.ok_or_else(|| format!("want =, !=, =~ or !~ after the label {label}"))?;
    let rest = rest[operator.len()..].trim_start();
    let value = quoted(rest).ok_or_else(|| {
        format!("the value of the label {label} must be in quotes: {label}{operator}\"VALUE\"")
    })?;
    let matcher = Matcher { label: label.to_owned(), operator, value: value.to_owned() };
    Ok((matcher, &rest[value.len()..]))
}

/// The string literal at the beginning of the text, with its quotes:
/// <https://prometheus.io/docs/prometheus/latest/querying/basics/#string-literals>.
fn quoted(text: &str) -> Option<&str> {
    let quote = text.chars().next().filter(|c| ['"', '\'', '`'].contains(c))?;
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if is_escaped {
            is_escaped = false;
        } else if c == '\\' && quote != '`' {
            is_escaped = true;
        } else if c == quote {
            return Some(&text[..=at]);
        }
    }
    None
}

/// The counters of the service's answers.
#[derive(Clone, Debug)]
pub struct Queries {
    /// The counter of requests. Its matchers apply to `slow`, too.
    pub requests: Metric,
    /// Selects the series of the stable release.
    pub stable: Matchers,
    /// Selects the series of the canary.
    pub canary: Matchers,
    /// The series that count failures. The matchers of `requests` apply to a counter of their own, too.
    pub failed: Failures,
    /// The bucket of the answers in time, if slow answers count as failures.
    pub slow: Option<Bucket>,
    /// The histogram of latencies, if they are compared.
    pub latencies: Option<Latencies>,
    /// The labels whose values divide requests.
    pub by: Vec<String>,
}

/// Whether this may be the name of a label.
pub(super) fn is_label(text: &str) -> bool {
    is_name(text, "")
}

impl Queries {
    /// All selectors, each with what its series count. Requests come first.
    pub(super) fn selectors(&self) -> Vec<(Kind, String)> {
        let mut all = Vec::new();
        let sides = [(Release::Stable, &self.stable.0), (Release::Canary, &self.canary.0)];
        for (release, side) in sides {
            let requests = selector(&self.requests.name, [&self.requests.matchers, side]);
            all.push((Kind { release, quantity: Quantity::Requests }, requests));
        }
        // the others have names of their own
        let is_common = |one: &&Matcher| one.label != NAME;
        let common: &Vec<_> = &self.requests.matchers.iter().filter(is_common).cloned().collect();
        for (release, side) in sides {
            let failures = match &self.failed {
                Failures::Among(Matchers(failed)) => {
                    selector(&self.requests.name, [&self.requests.matchers, side, failed])
                }
                Failures::Own(Metric { name, matchers }) => selector(name, [common, matchers, side]),
            };
            all.push((Kind { release, quantity: Quantity::Failures }, failures));
            if let Some(Bucket { name, le, matchers }) = &self.slow {
                let timed = selector(&format!("{name}_count"), [common, matchers, side]);
                all.push((Kind { release, quantity: Quantity::Timed }, timed));
                let in_time =
                    selector(&format!("{name}_bucket"), [common, matchers, side, &vec![le.spelled()]]);
                all.push((Kind { release, quantity: Quantity::InTime }, in_time));
            }
            if let Some(Latencies { name, matchers }) = &self.latencies {
                let buckets = selector(&format!("{name}_bucket"), [common, matchers, side]);
                all.push((Kind { release, quantity: Quantity::Within(Bound::INFINITE) }, buckets));
            }
        }
        all
    }

    /// The bound in seconds of a bucket of the histogram of latencies, from its label `le`.
    pub(super) fn bound(&self, le: &str) -> Option<Bound> {
        let unit = self.latencies.as_ref().map_or(1.0, Latencies::unit);
        le.parse::<f64>().ok().and_then(|bound| Bound::new(bound * unit))
    }

    /// The names of the labels by which failures are selected among requests.
    pub(super) fn labels_of_failures(&self) -> impl Iterator<Item = &str> {
        self.failed_among().iter().map(|matcher| matcher.label.as_str())
    }

    fn failed_among(&self) -> &[Matcher] {
        match &self.failed {
            Failures::Among(Matchers(matchers)) => matchers,
            Failures::Own(_) => &[],
        }
    }

    /// The name of the counter of failures, if they have one of their own.
    pub(super) fn name_of_failures(&self) -> Option<&str> {
        match &self.failed {
            Failures::Among(Matchers(matchers)) => {
                let name = matchers.iter().find(|one| one.label == NAME && one.operator == "=");
                name.and_then(Matcher::plain)
            }
            Failures::Own(metric) => Some(&metric.name),
        }
    }

    /// The name of the counter of requests; `None` if matchers select the names of several.
    pub(super) fn name(&self) -> Option<&str> {
        Some(self.requests.name.as_str()).filter(|name| !name.is_empty())
    }

    /// # Errors
    /// If the flags do not fit together: the cause, in words.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.stable == self.canary {
            return Err("--stable and --canary are the same: the releases cannot be distinguished".to_owned());
        }
        let failed = self.failed_among();
        let sides = [("--stable", &self.stable.0[..]), ("--canary", &self.canary.0), ("--failed", failed)];
        let named = sides.iter().find(|(_, side)| side.iter().any(|one| one.label == NAME));
        if let (Some((flag, _)), Some(name)) = (named, self.name()) {
            return Err(format!(
                "{flag} selects by {NAME}, so --metric must have the names of all counters of requests: \
                 {{{NAME}=~\"{name}|NAME\"}}"
            ));
        }
        let failed = failed.iter().filter(|one| one.label == NAME && one.operator == "=");
        for name in failed.filter_map(Matcher::plain) {
            if !self.requests.matchers.iter().all(|one| one.label != NAME || one.may_match(name)) {
                return Err(format!(
                    "--failed selects {name}, which --metric does not: no failure would count"
                ));
            }
        }
        Ok(())
    }
}

impl Matcher {
    /// The value, if it is written without escapes.
    fn plain(&self) -> Option<&str> {
        Some(&self.value[1..self.value.len() - 1]).filter(|inner| !inner.contains('\\'))
    }

    /// Whether it may match this value: if not, the two differ for certain.
    fn may_match(&self, value: &str) -> bool {
        let Some(own) = self.plain() else { return true };
        match self.operator {
            "=" => own == value,
            "!=" => own != value,
            operator => Regex::new(&format!("^(?:{own})$"))
                .map_or(true, |own| own.is_match(value) == (operator == "=~")),
        }
    }

    /// A matcher of a bucket's bound, however it is spelled: Prometheus 3 stores `250` as `250.0`, and some clients
    /// write `1e+06`. It stays as it is if its value is no number in plain quotes.
    fn spelled(&self) -> Self {
        let inner = &self.value[1..self.value.len() - 1];
        let spellings = spellings(inner);
        if spellings.len() < 2 {
            return self.clone();
        }
        // a backslash of the regular expression is written as two in the quotes
        let escaped = spellings.iter().map(|text| text.replace('.', "\\\\.").replace('+', "\\\\+"));
        let value = format!("\"{}\"", escaped.collect::<Vec<_>>().join("|"));
        Self { label: self.label.clone(), operator: "=~", value }
    }
}

/// The spellings of a bucket's bound: as given, as Prometheus 3 writes it, as its Go client does, and without a
/// fraction. Only the given one if it is not a finite number.
fn spellings(given: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::from([given.to_owned()]);
    let is_plain = given.chars().all(|c| c.is_ascii_digit() || "+-.eE".contains(c));
    if let Some(bound) = given.parse::<f64>().ok().filter(|bound| is_plain && bound.is_finite()) {
        let exponential = format!("{bound:e}");
        let (digits, exponent) = exponential.split_once('e').unwrap_or((&exponential, "0"));
        let exponent: i32 = exponent.parse().unwrap_or_default();
        all.insert(bound.to_string());
        if bound.fract() == 0.0 {
            all.insert(format!("{bound:.1}"));
        }
        // <https://pkg.go.dev/strconv#FormatFloat> with the format g
        if !(-4..6).contains(&exponent) {
            let sign = if exponent < 0 { '-' } else { '+' };
            all.insert(format!("{digits}e{sign}{:02}", exponent.abs()));
        }
    }
    all
}

/// One spelling of a bucket's bound, for all of them.
pub(super) fn canonical_bound(bound: &str) -> String {
    bound.parse::<f64>().map_or_else(|_| bound.to_owned(), |bound| bound.to_string())
}

fn selector<const N: usize>(name: &str, matchers: [&Vec<Matcher>; N]) -> String {
    let matchers: Vec<_> = matchers.into_iter().flatten().map(ToString::to_string).collect();
    format!("{name}{{{}}}", matchers.join(","))
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.label, self.operator, self.value)
    }
}

impl fmt::Display for Matchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(matchers) = self;
        let matchers: Vec<_> = matchers.iter().map(Matcher::to_string).collect();
        f.write_str(&matchers.join(","))
    }
}

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Among(matchers) => matchers.fmt(f),
            Self::Own(metric) => metric.fmt(f),
        }
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&selector(&self.name, [&vec![self.le.clone()], &self.matchers]))
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Metric { name: self.name.clone(), matchers: self.matchers.clone() }.fmt(f)
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.matchers.is_empty() {
            return f.write_str(&self.name);
        }
        f.write_str(&selector(&self.name, [&self.matchers]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_become_selectors() {
        let queries = Queries {
            requests: "http_requests_total{app=\"appinfo\"}".parse().expect("a metric"),
            stable: "release=\"stable\"".parse().expect("matchers"),
            canary: "{ release = 'canary' , }".parse().expect("matchers"),
            failed: "status=~\"5..\",status!~`50[12]`".parse().expect("matchers"),
            slow: Some("seconds_bucket{le=\"0.25\",method=\"GET\"}".parse().expect("a bucket")),
            latencies: Some("seconds_bucket{status!~\"5..\"}".parse().expect("a histogram")),
            by: Vec::new(),
        };
        let all: Vec<_> = queries.selectors().into_iter().map(|(kind, text)| (kind.release, text)).collect();
        let expected = [
            (Release::Stable, "http_requests_total{app=\"appinfo\",release=\"stable\"}"),
            (Release::Canary, "http_requests_total{app=\"appinfo\",release='canary'}"),
            (
                Release::Stable,
                "http_requests_total{app=\"appinfo\",release=\"stable\",status=~\"5..\",status!~`50[12]`}",
            ),
            (Release::Stable, "seconds_count{app=\"appinfo\",method=\"GET\",release=\"stable\"}"),
            (
                Release::Stable,
                "seconds_bucket{app=\"appinfo\",method=\"GET\",release=\"stable\",le=\"0.25\"}",
            ),
            (Release::Stable, "seconds_bucket{app=\"appinfo\",status!~\"5..\",release=\"stable\"}"),
            (
                Release::Canary,
                "http_requests_total{app=\"appinfo\",release='canary',status=~\"5..\",status!~`50[12]`}",
            ),
            (Release::Canary, "seconds_count{app=\"appinfo\",method=\"GET\",release='canary'}"),
            (Release::Canary, "seconds_bucket{app=\"appinfo\",method=\"GET\",release='canary',le=\"0.25\"}"),
            (Release::Canary, "seconds_bucket{app=\"appinfo\",status!~\"5..\",release='canary'}"),
        ];
        assert_eq!(all, expected.map(|(release, text)| (release, text.to_owned())));
    }

    #[test]
    fn several_metrics_are_selected_by_their_names_and_a_histogram_keeps_its_own() {
        let mut queries = Queries {
            requests: "{__name__=~\"done_total|failed_total\",queue=\"mail\"}".parse().expect("metrics"),
            stable: "release=\"stable\"".parse().expect("matchers"),
            canary: "release=\"canary\"".parse().expect("matchers"),
            failed: "__name__=\"failed_total\"".parse().expect("matchers"),
            slow: None,
            latencies: Some("seconds".parse().expect("a histogram")),
            by: Vec::new(),
        };
        let all: Vec<_> = queries.selectors().into_iter().map(|(_, text)| text).collect();
        let requests = "{__name__=~\"done_total|failed_total\",queue=\"mail\",release=";
        assert_eq!(all[0], format!("{requests}\"stable\"}}"));
        assert_eq!(all[2], format!("{requests}\"stable\",__name__=\"failed_total\"}}"));
        assert_eq!(all[3], "seconds_bucket{queue=\"mail\",release=\"stable\"}");
        assert_eq!((queries.check(), queries.name()), (Ok(()), None));
        assert_eq!(queries.name_of_failures(), Some("failed_total"));
        for (failed, is_selected) in [("faild_total", false), ("failed", false), ("done_total", true)] {
            queries.failed = format!("__name__=\"{failed}\"").parse().expect("matchers");
            assert_eq!(queries.check().is_ok(), is_selected, "{failed}");
        }
        // Prometheus refuses a name and a matcher of names
        queries.requests = "done_total".parse().expect("a metric");
        let error = queries.check().expect_err("no counter of failures");
        assert!(error.ends_with("counters of requests: {__name__=~\"done_total|NAME\"}"), "{error}");
    }

    #[test]
    fn failures_may_have_a_counter_of_their_own() {
        let own: Failures = "errors_total{kind!=\"retry\"}".parse().expect("a counter");
        let mut queries = Queries {
            requests: "all_total{queue=\"mail\"}".parse().expect("a metric"),
            stable: "release=\"stable\"".parse().expect("matchers"),
            canary: "release=\"canary\"".parse().expect("matchers"),
            failed: own,
            slow: None,
            latencies: None,
            by: Vec::new(),
        };
        let failed = |queries: &Queries| queries.selectors()[2].1.clone();
        let expected = "errors_total{queue=\"mail\",kind!=\"retry\",release=\"stable\"}";
        assert_eq!((failed(&queries).as_str(), queries.name_of_failures()), (expected, Some("errors_total")));
        queries.failed = "errors_total".parse().expect("a counter");
        assert_eq!((failed(&queries), queries.check()), (expected.replace(",kind!=\"retry\"", ""), Ok(())));
        for text in ["status=~\"5..\"", "{status=\"failed\"}", "__name__=\"errors_total\""] {
            assert!(matches!(text.parse(), Ok(Failures::Among(_))), "{text}");
        }
        for text in ["", "{}", "a-b", "a{", "a=b", "rate(a[1m])"] {
            assert!(text.parse::<Failures>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_histogram_has_bounds_in_its_own_unit() {
        for (histogram, le, bound) in [
            ("http_request_duration_seconds", "0.25", Some(0.25)),
            ("http_request_duration_seconds_bucket", "+Inf", Some(f64::INFINITY)),
            ("istio_request_duration_milliseconds_bucket", "250", Some(0.25)),
            ("response_latency_ms", "1e+03", Some(1.0)),
            ("seconds", "-1", None),
            ("seconds", "NaN", None),
            ("seconds", "much", None),
        ] {
            let queries = Queries {
                requests: "a".parse().expect("a metric"),
                stable: "a=\"b\"".parse().expect("matchers"),
                canary: "a=\"c\"".parse().expect("matchers"),
                failed: "a=\"d\"".parse().expect("matchers"),
                slow: None,
                latencies: Some(histogram.parse().expect("a histogram")),
                by: Vec::new(),
            };
            assert_eq!(queries.bound(le), bound.and_then(Bound::new), "{histogram} {le}");
        }
        assert!("a_bucket{le=\"1\"}".parse::<Latencies>().is_err());
    }

    #[test]
    fn a_bound_is_found_however_it_is_spelled() {
        for (le, expected) in [
            ("\"250\"", r#"le=~"250|250\\.0""#),
            ("'250.0'", r#"le=~"250|250\\.0""#),
            ("`0.25`", "le=`0.25`"),
            ("\".5\"", r#"le=~"\\.5|0\\.5""#),
            ("\"1e6\"", r#"le=~"1000000|1000000\\.0|1e\\+06|1e6""#),
            ("\"1000000\"", r#"le=~"1000000|1000000\\.0|1e\\+06""#),
            ("\"1234567\"", r#"le=~"1\\.234567e\\+06|1234567|1234567\\.0""#),
            ("\"0.00005\"", r#"le=~"0\\.00005|5e-05""#),
            ("\"+Inf\"", "le=\"+Inf\""),
            ("\"a.*|b\"", "le=\"a.*|b\""),
        ] {
            let bucket: Bucket = format!("a_bucket{{le={le}}}").parse().expect("a bucket");
            assert_eq!(bucket.le.spelled().to_string(), expected);
        }
        for spelling in ["250", "250.0", "2.5e+02"] {
            assert_eq!(canonical_bound(spelling), "250");
        }
        assert_eq!(canonical_bound("what"), "what");
    }

    #[test]
    fn values_may_hold_what_separates_matchers() {
        for text in ["a=\"x,y\"", "a=\"}\"", "a=\"say \\\"x\\\"\"", "a=`\\`", "a=\"\"", "a=\"b\",c!=\"d\""] {
            let matchers: Matchers = text.parse().expect(text);
            let shown: Vec<_> = matchers.0.iter().map(ToString::to_string).collect();
            assert_eq!(shown.join(","), text);
        }
    }

    #[test]
    fn what_is_no_metric_no_matcher_and_no_bucket_is_refused() {
        for text in ["", "1total", "a-b", "rate(a[1m])", "a{", "a{b}", "{a=\"b\"}", "a{b=\"c\"}[1m]"] {
            assert!(text.parse::<Metric>().is_err(), "{text}");
        }
        for text in ["{__name__!=\"a\"}", "{__name__!~\"a\"}", "a{__name__=\"a\"}"] {
            assert!(text.parse::<Metric>().is_err(), "{text}");
        }
        for text in ["{__name__=\"a_bucket\",le=\"1\"}", "{__name__=~\"a|b\"}"] {
            assert!(text.parse::<Bucket>().is_err() && text.parse::<Latencies>().is_err(), "{text}");
        }
        for text in [
            "",
            "{}",
            "stable",
            "{a=\"b\"",
            "a=b",
            "a=\"b",
            "a==\"b\"",
            "a~\"b\"",
            "a=\"b\" c=\"d\"",
            "a=\"b\"}",
        ] {
            assert!(text.parse::<Matchers>().is_err(), "{text}");
        }
        for text in ["a_bucket", "a{le=\"1\"}", "a_bucket{le=~\"1|2\"}", "a_bucket{b=\"c\"}"] {
            assert!(text.parse::<Bucket>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |text: &str| text.parse::<Matchers>().expect_err("it is refused");
        assert_eq!(
            error("release=stable"),
            "the value of the label release must be in quotes: release=\"VALUE\""
        );
        assert_eq!(error("pod-hash=\"a\""), "\"pod-hash\" is not the name of a label: want LABEL=\"VALUE\"");
        assert_eq!(error("stable"), "want =, !=, =~ or !~ after the label stable");
    }
}
