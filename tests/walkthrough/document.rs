//! The commands of a document.

/// A block fenced `sh`.
pub(crate) struct Block {
    /// The heading above it.
    pub(crate) section: String,
    /// The line of its fence, counted from 1.
    pub(crate) line: usize,
    pub(crate) script: String,
}

/// All blocks fenced `sh`, in order.
pub(crate) fn sh_blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut section = String::new();
    let mut fence: Option<(String, usize, Vec<&str>)> = None;
    for (line, number) in text.lines().zip(1..) {
        match &mut fence {
            Some(_) if line == "```" => {
                if let Some((language, line, lines)) = fence.take()
                    && language == "sh"
                {
                    blocks.push(Block { section: section.clone(), line, script: lines.join("\n") + "\n" });
                }
            }
            Some((_, _, lines)) => lines.push(line),
            None => {
                if let Some(language) = line.strip_prefix("```") {
                    fence = Some((language.to_owned(), number, Vec::new()));
                } else if line.starts_with('#') {
                    line.trim_start_matches('#').trim().clone_into(&mut section);
                }
            }
        }
    }
    blocks
}

/// The headings that have such blocks, in order.
pub(crate) fn sections_of(blocks: &[Block]) -> Vec<String> {
    let mut sections: Vec<_> = blocks.iter().map(|block| block.section.clone()).collect();
    sections.dedup();
    sections
}
