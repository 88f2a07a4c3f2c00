//! The documents whose commands are run, and which of them this run walks through.

use std::{env, fs};

use crate::{
    document::{Block, sections_of, sh_blocks},
    gateway::GATEWAY,
    sections::{README, Section},
};

/// A document with commands.
pub(crate) struct Chapter {
    pub(crate) file: &'static str,
    /// Folders of manifests that it uses beside `$MANIFESTS`.
    pub(crate) folders: &'static [&'static str],
    /// What it needs and the cluster does not have, in words: then it is skipped.
    pub(crate) missing: fn() -> Result<Option<String>, String>,
    pub(crate) sections: &'static [Section],
}

const CHAPTERS: [Chapter; 2] = [README, GATEWAY];

impl Chapter {
    /// Its commands, which must be those that this test measures.
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

/// The chapters that are named as arguments, or all. Of all, those are left out that need what the cluster does not
/// have, which is said.
///
/// # Errors
/// If a named one is unknown, or needs what the cluster does not have.
pub(crate) fn chapters() -> Result<Vec<Chapter>, String> {
    let named: Vec<_> = env::args().skip(1).collect();
    let files = CHAPTERS.map(|chapter| chapter.file);
    if let Some(unknown) = named.iter().find(|name| !files.contains(&name.as_str())) {
        return Err(format!(
            "{unknown} is none of the documents that are walked through: {}",
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
