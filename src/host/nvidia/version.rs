//! The driver's versions, as `580.95.05`: which texts are one, and which stand in a longer text.

/// Whether a text is a driver's version and nothing else: three digits or more, then one or two
/// more numbers, with dots between.
pub fn is_version(text: &[u8]) -> bool {
    // No version of a driver has more than its five and two times three digits.
    if text.len() > 13 {
        return false;
    }
    let mut parts = text.split(|byte| *byte == b'.');
    let is_number = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    let major = parts.next().is_some_and(|major| major.len() >= 3 && is_number(major));
    let rest: Vec<&[u8]> = parts.collect();
    major && matches!(rest.len(), 1 | 2) && rest.iter().all(|part| is_number(part))
}

/// The first word of `text` that is a driver's version.
pub fn first_in(text: &str) -> Option<&str> {
    text.split(|c: char| !c.is_ascii_digit() && c != '.')
        .map(|word| word.trim_end_matches('.'))
        .find(|word| is_version(word.as_bytes()))
}

/// The version in the name of a library file: `libcuda.so.580.95.05` has one, `libcuda.so.1` none.
pub fn of_file_name(name: &str) -> Option<&str> {
    let (_, version) = name.split_once(".so.")?;
    is_version(version.as_bytes()).then_some(version)
}

/// The numbers of a version, to be compared; what is no number counts as 0.
pub fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_told_from_what_looks_like_one() {
        for text in ["580.95.05", "550.135", "390.116", "470.256.02", "1000.1"] {
            assert!(is_version(text.as_bytes()), "{text}");
        }
        for text in
            ["", "1", "12.8", "580", "580.", "580..5", ".580.1", "580.1.2.3", "580.95.x", "86.64"]
        {
            assert!(!is_version(text.as_bytes()), "{text}");
        }
        assert!(!is_version(&b"1".repeat(99)));
    }

    #[test]
    fn versions_are_found_in_longer_texts() {
        for (text, expected) in [
            ("Kernel Module for x86_64  580.95.05  Release Build", Some("580.95.05")),
            ("NVIDIA UNIX aarch64 Kernel Module  535.54", Some("535.54")),
            ("ends with 550.135.", Some("550.135")),
            ("gcc version 12.2.0", None),
            ("", None),
        ] {
            assert_eq!(first_in(text), expected, "{text}");
        }
        assert_eq!(of_file_name("libnvidia-ml.so.580.95.05"), Some("580.95.05"));
        assert_eq!(of_file_name("libnvidia-ml.so.1"), None);
        assert_eq!(of_file_name("libnvidia-ml.so"), None);
        assert!(numbers("580.82.09") < numbers("580.95.05"));
        assert_eq!(numbers("580.x"), [580, 0]);
    }
}
