//! `${local_rank}` in the script's arguments, as Python's `string.Template` reads it.
//!
//! `${local_rank}` and `$local_rank` are the number, `$$` is `$`; everything else stays as it is,
//! bytes that are no text too.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

const NAME: &[u8] = b"local_rank";

/// Fills in the local rank.
pub(super) fn local_rank(arg: &OsStr, local_rank: u32) -> OsString {
    let mut rest = arg.as_bytes();
    if !rest.contains(&b'$') {
        return arg.to_owned();
    }
    let mut filled = Vec::with_capacity(rest.len());
    while let Some(at) = rest.iter().position(|&byte| byte == b'$') {
        let (before, from) = rest.split_at(at);
        filled.extend_from_slice(before);
        let after = &from[1..];
        rest = if let Some(after) = after.strip_prefix(b"$") {
            filled.push(b'$');
            after
        } else if let Some(after) = reference(after) {
            filled.extend_from_slice(local_rank.to_string().as_bytes());
            after
        } else {
            filled.push(b'$');
            after
        };
    }
    filled.extend_from_slice(rest);
    OsString::from_vec(filled)
}

/// What follows a reference to the local rank.
fn reference(after: &[u8]) -> Option<&[u8]> {
    if let Some(after) = after.strip_prefix(b"{") {
        return after.strip_prefix(NAME)?.strip_prefix(b"}");
    }
    // A longer name is another name.
    let after = after.strip_prefix(NAME)?;
    let goes_on = after.first().is_some_and(|&byte| byte == b'_' || byte.is_ascii_alphanumeric());
    (!goes_on).then_some(after)
}
