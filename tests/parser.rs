//! The label parser, with examples and with arbitrary text; and a label file as the kubelet writes it.

use std::{collections::BTreeMap, fs};

use appinfo::labels::{LabelFile, Labels};
use proptest::prelude::*;
use testkit::labels::LabelVolume;

type Expected = &'static [(&'static str, &'static str)];

fn parse(text: &[u8]) -> Vec<(String, String)> {
    Labels::parse(text).as_map().clone().into_iter().collect()
}

fn labels(expected: Expected) -> Vec<(String, String)> {
    expected.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[test]
fn each_line_is_a_label_or_is_ignored() {
    #[rustfmt::skip]
    let cases: &[(&[u8], Expected)] = &[
        (b"", &[]),
        (b"\n\n", &[]),
        (b"app=\"appinfo\"\nrelease=\"stable\"", &[("app", "appinfo"), ("release", "stable")]),
        (b"app=\"appinfo\"\nrelease=\"stable\"\n", &[("app", "appinfo"), ("release", "stable")]),
        (b"app=\"appinfo\"\r\nrelease=\"stable\"\r\n", &[("app", "appinfo"), ("release", "stable")]),
        (b"\napp=\"appinfo\"\n\n \nrelease=\"stable\"\n", &[("app", "appinfo"), ("release", "stable")]),
        (b"no equals sign\na=\"b\"", &[("a", "b")]),
        (b"a=\"b=c\"", &[("a", "b=c")]),
        (b"a==", &[("a", "=")]),
        (b"=\"b\"\n \t=\"c\"", &[]),
        (b"a=", &[("a", "")]),
        (b"a=\"\"", &[("a", "")]),
        (b"a=\"1\"\nb=\"2\"\na=\"3\"", &[("a", "3"), ("b", "2")]),
        (b"a=\"say \"hi\" twice\"", &[("a", "say hi twice")]),
        (b"a=\"back\\\"slash\"", &[("a", "back\\slash")]),
        (b"  a\t =  \"b\"  ", &[("a", "b")]),
        (b"a=\" kept inside \"", &[("a", " kept inside ")]),
        ("\u{a0}a\u{2003}=\u{3000}\"b\"\u{85}".as_bytes(), &[("a", "b")]),
        ("\u{feff}a=\"b\"\nc=\"d\"".as_bytes(), &[("a", "b"), ("c", "d")]),
        ("\u{feff} a=b".as_bytes(), &[("a", "b")]),
        ("\u{feff}".as_bytes(), &[]),
        ("\u{feff}=b".as_bytes(), &[]),
        ("\u{feff}\u{feff}a=b".as_bytes(), &[("\u{feff}a", "b")]),
        ("a=b\n\u{feff}c=d".as_bytes(), &[("a", "b"), ("\u{feff}c", "d")]),
        (b"\xef\xbba=b", &[("\u{fffd}a", "b")]),
        ("ключ=\"значение\"".as_bytes(), &[("ключ", "значение")]),
        (b"a=\"\xff\xfe\"", &[("a", "\u{fffd}\u{fffd}")]),
        (b"\xff=b", &[("\u{fffd}", "b")]),
        (b"a=b\rc=d", &[("a", "b\rc=d")]),
        (b"a=\"b\0c\"", &[("a", "b\0c")]),
        (b"\"a\"=\"b\"", &[("\"a\"", "b")]),
        (b"app.kubernetes.io/name=\"x\"", &[("app.kubernetes.io/name", "x")]),
    ];
    for (text, expected) in cases {
        assert_eq!(parse(text), labels(expected), "{}", text.escape_ascii());
    }
}

/// A line composed of known parts, so that the expected label needs no parsing.
#[derive(Clone, Debug)]
enum Line {
    Label { before: String, key: String, value: String, after: String },
    Ignored(String),
}

fn blanks() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[ \t\r\u{85}\u{a0}\u{2003}\u{3000}]{0,3}").expect("a regex")
}

fn line() -> impl Strategy<Value = Line> {
    // the parser trims keys and values, so the expected ones are trimmed, too
    let key = "[^=\n]{0,8}"
        .prop_map(|key: String| key.trim().to_owned())
        .prop_filter("no key", |key| !key.is_empty());
    let value = "[^\n]{0,12}".prop_map(|value: String| value.trim().to_owned());
    prop_oneof![
        4 => (blanks(), key, value, blanks())
            .prop_map(|(before, key, value, after)| Line::Label { before, key, value, after }),
        1 => "[^=\n]{0,12}".prop_map(Line::Ignored),
        1 => (blanks(), "[^\n]{0,6}").prop_map(|(blanks, value)| Line::Ignored(format!("{blanks}={value}"))),
    ]
}

proptest! {
    #[test]
    fn parsed_labels_are_the_labels_of_the_lines(
        lines in prop::collection::vec(line(), 0..12),
        last_newline: bool,
        byte_order_mark: bool,
    ) {
        let mut text = Vec::new();
        let mut expected = BTreeMap::new();
        for line in &lines {
            match line {
                Line::Ignored(line) => text.push(line.clone()),
                Line::Label { before, key, value, after } => {
                    text.push(format!("{before}{key}{after}={before}{value}{after}"));
                    expected.insert(key.clone(), value.replace('"', ""));
                }
            }
        }
        let mut text = text.join("\n");
        if last_newline {
            text.push('\n');
        }
        if byte_order_mark || text.starts_with('\u{feff}') {
            text.insert(0, '\u{feff}');
        }
        let labels = Labels::parse(text.as_bytes());
        prop_assert_eq!(labels.as_map(), &expected);
    }

    #[test]
    fn any_bytes_give_valid_keys_and_values(text: Vec<u8>) {
        for (key, value) in Labels::parse(&text).as_map() {
            prop_assert!(!key.is_empty() && key.trim() == key && !key.contains(['=', '\n']));
            prop_assert!(!value.contains(['"', '\n']));
        }
    }

    #[test]
    fn invalid_utf8_is_replaced_before_parsing(text: Vec<u8>) {
        prop_assert_eq!(Labels::parse(&text), Labels::parse(String::from_utf8_lossy(&text).as_bytes()));
    }
}

#[test]
fn after_a_swap_the_service_reads_the_new_labels_and_the_old_version_is_removed() {
    let directory = tempfile::tempdir().expect("a directory");
    let volume = LabelVolume::new(directory.path().join("volume"), "app=\"appinfo\"").expect("a volume");
    let file = LabelFile::new(volume.file());
    let mut labels = BTreeMap::from([("app".to_owned(), "appinfo".to_owned())]);
    assert_eq!(file.read().expect("labels").as_map(), &labels);
    volume.swap("app=\"appinfo\"\nnewlabel=\"realtime\"").expect("a swap");
    labels.insert("newlabel".to_owned(), "realtime".to_owned());
    assert_eq!(file.read().expect("labels").as_map(), &labels);
    let entries = fs::read_dir(directory.path().join("volume")).expect("a directory").count();
    assert_eq!(entries, 3, "two links and the directory of the current version");
}
