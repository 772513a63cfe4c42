//! Parses a page of the documentation: its blocks, the action for each, and the commands of a session. Runs nothing.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use registry_testbed::in_repository;

use crate::programs::text_of;

/// The pages for users: README.md, docs/*.md and the chart's README.
pub fn pages() -> Result<Vec<String>> {
    let of_docs = pages_below("docs")?.into_iter().filter(|page| page.matches('/').count() == 1);
    let mut pages: Vec<String> = of_docs.collect();
    pages.extend(["README.md".to_owned(), "charts/registry-operator/README.md".to_owned()]);
    pages.sort();
    Ok(pages)
}

/// Every page below a directory of the repository that is ours: nothing that is built, nothing hidden.
pub fn pages_below(directory: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(in_repository(directory))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = Path::new(directory).join(&name).display().to_string();
        if entry.file_type()?.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(pages_below(&path)?);
        } else if Path::new(&name).extension().is_some_and(|kind| kind == "md") {
            found.push(path);
        }
    }
    Ok(found)
}

/// A fenced block of a page.
#[derive(Clone, Debug)]
pub struct Block {
    page: String,
    line: usize,
    language: String,
    /// The info string after the language.
    tag: String,
    /// The text of the block.
    pub text: String,
}

/// The action for a block.
#[derive(Debug, Eq, PartialEq)]
pub enum Purpose<'a> {
    /// The reader types it; after that command, which brings about the situation that the page describes.
    SessionCommand { before: Option<&'a str> },
    /// The same, on a new cluster.
    TypedAfresh,
    /// A manifest that the reader applies.
    Applied,
    /// A manifest that the API server would take.
    Manifest,
    /// A part of a registry's spec.
    Spec,
    /// Values of the chart.
    Values,
    /// JSON.
    Json,
    /// Nothing, for that reason.
    Nothing { reason: &'a str },
}

impl Block {
    /// Where it begins.
    pub fn place(&self) -> String {
        format!("{}:{}", self.page, self.line)
    }

    /// The action in its info string. An unknown one is an error.
    pub fn purpose(&self) -> Result<Purpose<'_>> {
        if let Some(reason) = self.tag.strip_prefix("notest:").map(str::trim) {
            ensure!(reason.len() > 10, "{}: why is nothing done with it?", self.place());
            return Ok(Purpose::Nothing { reason });
        }
        Ok(match (&*self.language, &*self.tag) {
            ("sh" | "console", "") => Purpose::SessionCommand { before: None },
            ("sh" | "console", "fresh") => Purpose::TypedAfresh,
            ("sh" | "console", tag) if tag.starts_with("before:") => {
                Purpose::SessionCommand { before: tag.strip_prefix("before:") }
            }
            ("yaml", "") => Purpose::Manifest,
            ("yaml", "apply") => Purpose::Applied,
            ("yaml", "spec") => Purpose::Spec,
            ("yaml", "values") => Purpose::Values,
            ("json", "") => Purpose::Json,
            (language, tag) => bail!("{}: nobody knows what `{language} {tag}` means", self.place()),
        })
    }

    /// Whether the reader of the page does it.
    pub fn is_done(&self) -> Result<bool> {
        Ok(matches!(
            self.purpose()?,
            Purpose::SessionCommand { .. } | Purpose::TypedAfresh | Purpose::Applied
        ))
    }

    /// The commands and their expected output. A script is one command without output.
    pub fn commands(&self) -> Vec<SessionCommand> {
        if self.language == "console" {
            return session(&self.text);
        }
        vec![SessionCommand { command: format!("(set -e\n{})\n", self.text), shown: String::new() }]
    }
}

/// A command of a session, and what the page shows as its answer.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct SessionCommand {
    pub command: String,
    pub shown: String,
}

/// The commands of a session: each from its `$ ` to the end of its continuations and here-documents. The rest is output.
pub fn session(text: &str) -> Vec<SessionCommand> {
    let mut typed: Vec<SessionCommand> = Vec::new();
    let mut is_typed = false;
    let mut until: Option<String> = None;
    for line in text.lines() {
        let begins = line.strip_prefix("$ ").filter(|_| until.is_none());
        if begins.is_some() {
            typed.push(SessionCommand::default());
        }
        let Some(last) = typed.last_mut() else { continue };
        let to = if begins.is_some() || is_typed { &mut last.command } else { &mut last.shown };
        let line = begins.unwrap_or(line);
        to.push_str(line);
        to.push('\n');
        if begins.is_none() && !is_typed {
            continue;
        }
        if until.as_deref() == Some(line) {
            until = None;
        } else if let Some((_, word)) = line.split_once("<<") {
            until = Some(word.trim().trim_matches(['\'', '"']).to_owned());
        }
        is_typed = until.is_some() || line.ends_with('\\');
    }
    typed
}

/// The blocks of a page, in their order.
pub fn blocks(page: &str) -> Result<Vec<Block>> {
    let text = text_of(page)?;
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for (index, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(words), None) => open = Some(begun(page, index + 1, words)),
            (Some(_), Some(block)) => found.push(block),
            (None, Some(mut block)) => {
                block.text.push_str(line);
                block.text.push('\n');
                open = Some(block);
            }
            (None, None) => {}
        }
    }
    ensure!(open.is_none(), "{page} has a block without an end");
    Ok(found)
}

fn begun(page: &str, line: usize, words: &str) -> Block {
    let (language, tag) = words.split_once(' ').unwrap_or((words, ""));
    let (language, tag) = (language.to_owned(), tag.trim().to_owned());
    Block { page: page.to_owned(), line, language, tag, text: String::new() }
}

/// The text outside of blocks, with its line breaks.
pub fn prose(page: &str) -> Result<String> {
    let mut is_block = false;
    let mut prose = String::new();
    for line in text_of(page)?.lines() {
        if line.starts_with("```") {
            is_block = !is_block;
        } else if !is_block {
            prose.push_str(line);
            prose.push('\n');
        }
    }
    Ok(prose)
}

/// The code spans of the prose, each on one line.
pub fn code(page: &str) -> Result<Vec<String>> {
    let prose = prose(page)?;
    let pieces: Vec<&str> = prose.split('`').collect();
    (pieces.len() % 2 == 1).then_some(()).with_context(|| format!("{page}: a backtick without another"))?;
    let join = |piece: &str| piece.split_whitespace().collect::<Vec<_>>().join(" ");
    Ok(pieces.into_iter().skip(1).step_by(2).map(join).collect())
}

#[test]
fn separates_commands_from_their_output() {
    let text = "$ one\nanswer\n$ two \\\n    more\n$ three <<'EOF'\n$ not a prompt\nEOF\nthis\nthat\n";
    let typed =
        |command: &str, shown: &str| SessionCommand { command: command.to_owned(), shown: shown.to_owned() };
    let expected = [
        typed("one\n", "answer\n"),
        typed("two \\\n    more\n", ""),
        typed("three <<'EOF'\n$ not a prompt\nEOF\n", "this\nthat\n"),
    ];
    assert_eq!(session(text), expected);
}
