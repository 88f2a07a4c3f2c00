//! Text that comes from others: names and labels from the service, errors of other programs. Here it is made safe
//! to show, and bounded.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    sync::{Mutex, PoisonError},
};

use appinfo::app_info::AppInfo;

/// The labels with the hash of a pod template: of Argo Rollouts, of Deployments, and of `StatefulSet`s and
/// `DaemonSet`s. In Prometheus, each `-` is a `_`.
pub(crate) const HASH_LABELS: [&str; 3] =
    ["rollouts-pod-template-hash", "pod-template-hash", "controller-revision-hash"];

/// The longest name in Kubernetes, in bytes.
pub const NAME: usize = 253;
/// The longest value of a label in Kubernetes, in bytes.
pub const LABEL: usize = 63;
/// The longest key of a label: a prefix, a slash and a name.
const KEY: usize = NAME + 1 + LABEL;
/// The longest name of a stratum, such as a path, in bytes.
pub const STRATUM: usize = 120;
/// The longest error message, in bytes.
pub const ERROR: usize = 500;
/// The longest word of a message, in bytes: more than any URL or path that a person writes.
pub const LONGEST_WORD: usize = 1000;
/// The most bytes that the labels of a pod have together. Usual ones have about 500.
const LABELS: usize = 1024;
/// The most names of releases besides stable and canary.
const MOST_RELEASES: usize = 16;
/// What is cut ends with this.
const CUT: char = '…';

/// Whether a terminal or a log shows this character as it is. Control characters can change what is on the screen.
/// Those that change the direction of text, and those without a width, can make a text look like another one.
pub fn is_safe(character: char) -> bool {
    !character.is_control()
        && !matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The text with all unsafe characters escaped, as in `\u{1b}`.
pub fn safe(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_safe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\n' => safe.push_str("\\n"),
            '\t' => safe.push(' '),
            character if is_safe(character) => safe.push(character),
            character => {
                let _ = write!(safe, "{}", character.escape_unicode()); // a String takes anything
            }
        }
    }
    Cow::Owned(safe)
}

/// The safe text, in at most this many bytes. What is longer is cut, and ends with `…`.
pub fn bounded(text: &str, most: usize) -> String {
    // what is far too long is not even looked at
    let text = safe(&text[..boundary(text, 2 * most)]);
    if text.len() <= most {
        return text.into_owned();
    }
    let end = boundary(&text, most.saturating_sub(CUT.len_utf8()));
    format!("{}{CUT}", &text[..end])
}

/// The text, with each word that is longer than `most` bytes cut.
pub fn with_bounded_words(text: &str, most: usize) -> Cow<'_, str> {
    let is_long = |word: &str| word.len() > most;
    if !text.split(char::is_whitespace).any(is_long) {
        return Cow::Borrowed(text);
    }
    let words = text.split_inclusive(char::is_whitespace).map(|word| {
        let end = word.trim_end_matches(char::is_whitespace).len();
        if is_long(&word[..end]) {
            Cow::Owned(bounded(&word[..end], most) + &word[end..])
        } else {
            Cow::Borrowed(word)
        }
    });
    Cow::Owned(words.collect())
}

/// The last boundary of a character in the first `most` bytes.
fn boundary(text: &str, most: usize) -> usize {
    (0..=most.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// The same description of a pod, with bounded names and labels. The label `…` says how many labels were left out.
pub(crate) fn bounded_info(info: &AppInfo) -> AppInfo {
    // the labels that tell the version come first, so that they are always there
    let is_hash = |key: &String| HASH_LABELS.contains(&key.as_str());
    let first = info.labels.iter().filter(|(key, _)| is_hash(key));
    let others = info.labels.iter().filter(|(key, _)| !is_hash(key));
    let (mut labels, mut bytes) = (BTreeMap::new(), 0);
    for (key, value) in first.chain(others) {
        let (key, value) = (bounded(key, KEY), bounded(value, LABEL));
        bytes += key.len() + value.len();
        if bytes > LABELS {
            break;
        }
        labels.insert(key, value);
    }
    if labels.len() < info.labels.len() {
        labels.insert(CUT.to_string(), format!("{} more", info.labels.len() - labels.len()));
    }
    AppInfo {
        pod_name: bounded(&info.pod_name, NAME),
        app_name: bounded(&info.app_name, LABEL),
        namespace: bounded(&info.namespace, LABEL),
        release: bounded(&info.release, LABEL),
        labels,
    }
}

/// The names of releases that are neither stable nor canary. Only the first ones are kept.
#[derive(Debug, Default)]
pub(crate) struct OtherReleases(Mutex<BTreeSet<String>>);

impl OtherReleases {
    /// The bounded name, or `…` if there are too many.
    pub(crate) fn name(&self, name: &str) -> String {
        let name = bounded(name, NAME);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(&name) {
            return name;
        }
        if known.len() < MOST_RELEASES {
            known.insert(name.clone());
            return name;
        }
        CUT.to_string()
    }
}

#[cfg(test)]
mod tests {
    use appinfo::labels::Labels;

    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        for (text, expected) in [
            ("appinfo-1", "appinfo-1"),
            ("größe 名前 🙂", "größe 名前 🙂"),
            ("\u{1b}[2J\u{1b}]0;title\u{7}", "\\u{1b}[2J\\u{1b}]0;title\\u{7}"),
            ("one\ntwo\r", "one\\ntwo\\u{d}"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("a\u{202e}b\u{2066}c\u{200b}", "a\\u{202e}b\\u{2066}c\\u{200b}"),
            ("\u{2028}", "\\u{2028}"),
        ] {
            assert_eq!(safe(text), expected);
        }
    }

    #[test]
    fn what_is_too_long_is_cut_and_says_so() {
        assert_eq!(bounded("abcdef", 6), "abcdef");
        assert_eq!(bounded("abcdefg", 6), "abc…");
        assert_eq!(bounded("ääääääää", 6), "ä…");
        assert_eq!(bounded(&"\u{1b}".repeat(1000), 14), "\\u{1b}\\u{1b…");
        for most in [0, 1, 5] {
            assert!(bounded(&"a".repeat(100), most).len() <= most.max(CUT.len_utf8()), "{most}");
        }
    }

    #[test]
    fn only_words_that_are_too_long_are_cut() {
        let usual = "one  two\n three\n";
        assert_eq!(with_bounded_words(usual, 5), usual);
        assert_eq!(with_bounded_words("a  bcdefghij\n 'klmnopqrs'", 6), "a  bcd…\n 'kl…");
        assert_eq!(with_bounded_words("ääääääää b", 6), "ä… b");
    }

    #[test]
    fn the_labels_of_a_pod_are_bounded_and_keep_the_version() {
        let many: Vec<_> = (0..10_000).map(|n| format!("a{n}=\"{}\"\n", "b".repeat(100))).collect();
        let many = many.concat();
        let labels = Labels::parse(format!("{many}pod-template-hash=\"c66665c44\"").as_bytes());
        let info = bounded_info(&AppInfo::new(&"p".repeat(1000), "space", &labels));
        assert_eq!(info.pod_name.len(), NAME);
        assert_eq!(info.labels["pod-template-hash"], "c66665c44");
        assert_eq!(info.labels["…"], format!("{} more", 10_001 - (info.labels.len() - 1)));
        let bytes: usize = info.labels.iter().map(|(key, value)| key.len() + value.len()).sum();
        assert!((900..1100).contains(&bytes), "{bytes}");
        let usual = AppInfo::new("p", "space", &Labels::parse(b"app=a\nrelease=b\nc=d"));
        assert_eq!(bounded_info(&usual), usual);
    }

    #[test]
    fn sixteen_other_releases_are_told_apart() {
        let others = OtherReleases::default();
        let names: BTreeSet<_> = (0..1000).map(|n| others.name(&format!("r{n}"))).collect();
        assert_eq!(names.len(), MOST_RELEASES + 1);
        assert_eq!((others.name("r3"), others.name("r999")), ("r3".to_owned(), "…".to_owned()));
    }
}
