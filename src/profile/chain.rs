//! What a profile extends, and what that extends, to the end. Pure, given who reads a profile.
//!
//! - C1: the nearest wins: a value of the profile itself stands above that of what it extends.
//! - C2: a chain ends: one that comes back to itself, or is longer than [`MAX_LINKS`], is an error
//!   that names all of it.

use std::path::PathBuf;
use std::sync::Arc;

use super::document::Document;
use super::layer::{Layer, Placed};
use super::places::At;
use crate::settings::Origin;

/// Profiles of a chain, at most.
pub const MAX_LINKS: usize = 16;

/// A profile that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its name, or its file where it was asked for by that.
    pub name: String,
    /// Where it is.
    pub at: At,
    /// The file, as origins name it.
    pub file: Arc<str>,
    /// Its text, as it is.
    pub text: String,
    /// What it says.
    pub document: Document,
    /// The same for the same file, whatever links lead to it.
    pub id: PathBuf,
}

/// Why a chain has no end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// It comes back to itself.
    #[error("{origin}: profiles extend each other: {}", files.join(" -> "))]
    Cycle {
        /// The line that closes it.
        origin: Origin,
        /// The files, the first again at the end.
        files: Vec<String>,
    },
    /// It is longer than [`MAX_LINKS`].
    #[error("{origin}: more than {MAX_LINKS} profiles extend each other")]
    Long {
        /// The line that goes too far.
        origin: Origin,
    },
}

/// Follows `extends` from a profile to the end; the nearest first. `read` gives the profile that
/// one names.
pub fn follow<E: From<ChainError>>(
    first: Link,
    mut read: impl FnMut(&Placed<String>, &Link) -> Result<Link, E>,
) -> Result<Vec<Link>, E> {
    let mut chain = vec![first];
    loop {
        let last = chain.last().expect("it begins with one");
        let Some(extends) = last.document.extends.clone() else { return Ok(chain) };
        let next = read(&extends, last)?;
        if let Some(at) = chain.iter().position(|link| link.id == next.id) {
            let files = chain[at..].iter().chain([&next]).map(|link| link.file.to_string());
            let files = files.collect();
            return Err(ChainError::Cycle { origin: extends.origin, files }.into());
        }
        if chain.len() == MAX_LINKS {
            return Err(ChainError::Long { origin: extends.origin }.into());
        }
        chain.push(next);
    }
}

/// The values of a chain (C1).
pub fn join(chain: &[Link]) -> Layer {
    let layers = chain.iter().rev().map(|link| link.document.values.clone());
    layers.fold(Layer::default(), Layer::below)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, extends: Option<&str>) -> Link {
        let file: Arc<str> = format!("{name}.yaml").into();
        let placed = |value: &str, line| Placed {
            value: value.to_owned(),
            origin: Origin::File { file: Arc::clone(&file), line },
        };
        let extends = extends.map(|name| placed(name, 2));
        let mut document = Document { extends, ..Document::default() };
        document.values.texts.insert("geometry.role", placed(name, 3));
        if name == "c" {
            document.values.texts.insert("geometry.nproc", placed("8", 4));
        }
        let at = At::File(PathBuf::from(&*file));
        Link {
            name: name.to_owned(),
            text: String::new(),
            at,
            id: PathBuf::from(&*file),
            file: Arc::clone(&file),
            document,
        }
    }

    /// A name and what it extends.
    type Extends<'a> = (&'a str, Option<&'a str>);

    fn chain(links: &[Extends<'_>]) -> Result<Vec<Link>, ChainError> {
        let find = |name: &str| {
            let found = links.iter().find(|(known, _)| *known == name).expect("it is there");
            link(found.0, found.1)
        };
        follow(find(links[0].0), |extends, _| Ok(find(&extends.value)))
    }

    #[test]
    fn the_nearest_wins_and_keeps_its_place() {
        let chain = chain(&[("a", Some("b")), ("b", Some("c")), ("c", None)]).expect("it ends");
        let names: Vec<_> = chain.iter().map(|link| &*link.name).collect();
        assert_eq!(names, ["a", "b", "c"]);
        let layer = join(&chain);
        let shown = |key| {
            let placed: &Placed<String> = &layer.texts[key];
            format!("{} {}", placed.value, placed.origin)
        };
        assert_eq!(shown("geometry.role"), "a a.yaml:3");
        assert_eq!(shown("geometry.nproc"), "8 c.yaml:4");
    }

    #[test]
    fn a_chain_without_end_is_named_whole() {
        for (links, expected) in [
            (&[("a", Some("a"))][..], "a.yaml:2: profiles extend each other: a.yaml -> a.yaml"),
            (
                &[("a", Some("b")), ("b", Some("c")), ("c", Some("b"))],
                "c.yaml:2: profiles extend each other: b.yaml -> c.yaml -> b.yaml",
            ),
        ] {
            assert_eq!(chain(links).expect_err("it has no end").to_string(), expected);
        }
        let names: Vec<String> = (0..=MAX_LINKS).map(|number| format!("p{number}")).collect();
        let mut links: Vec<Extends<'_>> =
            names.windows(2).map(|pair| (&*pair[0], Some(&*pair[1]))).collect();
        links.push((&names[MAX_LINKS], None));
        let long = chain(&links).expect_err("it is too long");
        assert_eq!(long.to_string(), "p15.yaml:2: more than 16 profiles extend each other");
        assert_eq!(chain(&links[1..]).expect("it is as long as it may be").len(), MAX_LINKS);
    }
}
