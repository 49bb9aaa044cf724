//! Reads the file of a profile.

use std::path::Path;
use std::sync::Arc;

use super::document::Document;
use super::error::ProfileError;
use super::{check, node};

/// The text of a profile and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The file, as it is shown: `launch-profiles/a.yaml`.
    pub name: Arc<str>,
    /// What it holds.
    pub text: String,
}

/// Reads and checks the file of a profile.
pub fn load(path: &Path) -> Result<(Document, Source), ProfileError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ProfileError::Unreadable { path: path.to_owned(), source })?;
    let source = Source { name: path.display().to_string().into(), text };
    let document = parse(&source)?;
    Ok((document, source))
}

/// Checks a text that is there already.
pub fn parse(source: &Source) -> Result<Document, ProfileError> {
    let problems = |problems| ProfileError::Problems { source_text: source.clone(), problems };
    let root = node::parse(&source.text).map_err(|problem| problems(vec![problem]))?;
    let (document, found) = check::check(&root, &source.text, &source.name);
    if found.is_empty() { Ok(document) } else { Err(problems(found)) }
}
