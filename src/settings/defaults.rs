//! The embedded defaults, `launch-profiles/default.yaml`: the lowest layer, and the text of every
//! key.

use std::sync::Arc;

use super::error::SettingsError;
use super::layers::Origin;
use crate::profile::layer::Layer;
use crate::profile::{check, node};

/// The file as it is.
pub const TEXT: &str = include_str!("../../launch-profiles/default.yaml");

/// The lowest layer: a value for every key.
pub fn layer() -> Result<Layer, SettingsError> {
    let root = node::parse(TEXT).map_err(|problem| SettingsError::Defaults(problem.what))?;
    let file: Arc<str> = "default.yaml".into();
    let (document, problems) = check::check(&root, TEXT, &file);
    if let Some(problem) = problems.first() {
        return Err(SettingsError::Defaults(problem.what.clone()));
    }
    let mut layer = document.values;
    for (path, placed) in &mut layer.texts {
        placed.origin = Origin::Default(path);
    }
    Ok(layer)
}

/// The comment above a key of the file, as one line; sections have one too.
pub fn comment(path: &str) -> Option<String> {
    let mut section = "";
    let mut comment: Vec<&str> = Vec::new();
    for line in TEXT.lines() {
        let trimmed = line.trim();
        if let Some(text) = trimmed.strip_prefix('#') {
            comment.push(text.trim());
            continue;
        }
        if let Some((name, _)) = trimmed.split_once(':') {
            let is_top = !line.starts_with(' ');
            if is_top {
                section = name;
            }
            let found = if is_top { name == path } else { path == format!("{section}.{name}") };
            if found {
                return Some(comment.join(" "));
            }
        }
        comment.clear();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::keys;

    #[test]
    fn the_file_has_every_key_with_a_comment_in_the_order_of_the_table() {
        let layer = layer().expect("the file is right");
        let mut from = 0;
        for key in keys::ALL {
            assert!(layer.texts.contains_key(key.path), "{} has no default", key.path);
            let comment = comment(key.path).unwrap_or_default();
            assert!(comment.ends_with('.'), "{}: `{comment}`", key.path);
            if let Some(option) = key.option.filter(|_| key.path != "logs.fold") {
                assert!(comment.starts_with(option), "{}: `{comment}`", key.path);
            }
            let name = format!("{}:", key.parts().1);
            from += TEXT[from..].find(&name).expect("the order is the table's") + name.len();
        }
        for map in keys::MAPS {
            assert!(comment(map).is_some(), "{map}");
        }
    }
}
