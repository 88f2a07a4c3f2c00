//! Tests of the documents: their links work, and the README stays short.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn documents() -> Vec<PathBuf> {
    let in_folder = |folder: &str| -> Vec<_> {
        fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").path()).collect()
    };
    let mut documents = in_folder(".");
    documents.extend(in_folder("docs"));
    documents.retain(|path| path.extension().is_some_and(|ending| ending == "md"));
    documents
}

fn text(document: &Path) -> String {
    fs::read_to_string(document).unwrap_or_else(|error| panic!("{}: {error}", document.display()))
}

/// Lines outside fenced blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut in_block = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        in_block ^= fence;
        !in_block && !fence
    })
}

/// The anchors that GitHub gives to headings: lower case, hyphens for spaces, and no other punctuation.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

/// The targets of links and pictures: `[text](target)`.
fn links(text: &str) -> Vec<String> {
    let text: String = prose(text).collect::<Vec<_>>().join("\n");
    let after = text.split("](").skip(1);
    after.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_owned()).collect()
}

#[test]
fn every_link_between_the_documents_leads_to_a_file_and_a_heading() {
    let mut checked = 0;
    for document in documents() {
        let own = text(&document);
        for link in links(&own).into_iter().filter(|link| !link.contains("://")) {
            let (path, fragment) = link.split_once('#').unwrap_or((&link, ""));
            let folder = document.parent().expect("a folder");
            let target = if path.is_empty() { document.clone() } else { folder.join(path) };
            assert!(target.exists(), "{}: {link} leads to no file", document.display());
            if !fragment.is_empty() {
                let there = anchors(&text(&target)).contains(fragment);
                assert!(there, "{}: {link} leads to no heading", document.display());
            }
            checked += 1;
        }
    }
    assert!(checked > 20, "only {checked} links were found");
}

#[test]
fn the_readme_has_at_most_450_lines() {
    assert!(text(Path::new("README.md")).lines().count() <= 450);
}

#[test]
fn the_documents_name_the_rust_version_that_cargo_demands() {
    for document in ["README.md", "CONTRIBUTING.md"] {
        let text = text(Path::new(document));
        let after = text.split("Rust ").filter_map(|rest| rest.split_once(" or newer"));
        let named: Vec<_> =
            after.map(|(version, _)| version).filter(|version| !version.contains(' ')).collect();
        assert_eq!(named, [env!("CARGO_PKG_RUST_VERSION")], "{document}");
    }
}

/// Before curl retries, it truncates the file of `-o`. Some versions fail at `/dev/null`, with exit code 23. A 500 of the
/// broken canary is a reason to retry, so this happens by chance.
#[test]
fn no_command_lets_curl_retry_into_a_file() {
    let retries_into_a_file = |line: &&str| {
        let words: Vec<_> = line.split_whitespace().collect();
        words.contains(&"curl") && words.contains(&"--retry") && words.contains(&"-o")
    };
    assert!(retries_into_a_file(&"curl -sS -o /dev/null --retry 30 localhost:8080/v1/appinfo"));
    let mut files = documents();
    let workflows = fs::read_dir(".github/workflows").expect("the folder");
    files.extend(workflows.map(|entry| entry.expect("an entry").path()));
    files.push(".ci/run".into());
    for file in files {
        let text = text(&file).replace("\\\n", " ");
        let found: Vec<_> = text.lines().filter(retries_into_a_file).collect();
        assert_eq!(found, [""; 0], "{}", file.display());
    }
}
