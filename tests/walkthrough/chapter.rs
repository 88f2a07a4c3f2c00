//! The documents whose commands this test can run, and the choice for this run.

use std::{env, fs};

use crate::{
    baseline::BASELINE,
    document::{Block, sections_of, sh_blocks},
    gateway::GATEWAY,
    sections::{README, Section},
};

/// A document with commands.
pub(crate) struct Chapter {
    pub(crate) file: &'static str,
    /// Folders of manifests that it uses besides `$MANIFESTS`.
    pub(crate) folders: &'static [&'static str],
    /// What the cluster lacks for this document, in words. If there is something, the document is skipped.
    pub(crate) missing: fn() -> Result<Option<String>, String>,
    pub(crate) sections: &'static [Section],
}

const CHAPTERS: [Chapter; 3] = [README, BASELINE, GATEWAY];

impl Chapter {
    /// Its blocks of commands. It is an error if their sections are not those that this test measures.
    pub(crate) fn blocks(&self) -> Result<Vec<Block>, String> {
        let file = self.file;
        let text = fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
        let blocks = sh_blocks(&text);
        let titles = sections_of(&blocks);
        let known: Vec<_> = self.sections.iter().map(|section| section.title).collect();
        if titles == known {
            Ok(blocks)
        } else {
            Err(format!(
                "sections with sh blocks in {file}:\n{titles:#?}\nbut this test measures:\n{known:#?}"
            ))
        }
    }
}

/// The documents named as arguments. Without arguments, all documents for which the cluster has what they need, with a
/// message for each of the others.
///
/// # Errors
/// If an argument names no known document, or one for which the cluster lacks something.
pub(crate) fn chapters() -> Result<Vec<Chapter>, String> {
    let named: Vec<_> = env::args().skip(1).collect();
    let files = CHAPTERS.map(|chapter| chapter.file);
    if let Some(unknown) = named.iter().find(|name| !files.contains(&name.as_str())) {
        return Err(format!(
            "{unknown} is not a document with commands to run; these are: {}",
            files.join(", ")
        ));
    }
    let mut chapters = Vec::new();
    for chapter in CHAPTERS {
        let is_named = named.iter().any(|name| name == chapter.file);
        if !is_named && !named.is_empty() {
            continue;
        }
        match (chapter.missing)()? {
            None => chapters.push(chapter),
            Some(missing) if is_named => return Err(format!("{}: {missing}", chapter.file)),
            Some(missing) => println!("\n== {}: skipped, {missing}", chapter.file),
        }
    }
    Ok(chapters)
}
