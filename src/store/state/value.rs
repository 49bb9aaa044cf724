//! A stored value: small ones by themselves, large ones so that they can be sent without a copy.

use std::sync::{Arc, Weak};

use crate::store::wire::Value;

/// From this size on, in bytes, a value is shared with the replies that carry it.
const LARGE: usize = 4096;

/// A value, 16 bytes besides its contents.
#[derive(Debug, Clone)]
pub(super) enum Stored {
    Small(Box<[u8]>),
    Large(Arc<Vec<u8>>),
}

impl Stored {
    pub(super) fn new(value: Value) -> Self {
        if value.len() < LARGE {
            Self::Small(value)
        } else {
            Self::Large(Arc::new(value.into_vec()))
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Small(bytes) => bytes,
            Self::Large(bytes) => bytes,
        }
    }

    /// If a reply holds it too: how to see when that ends, and its length.
    pub(super) fn shared_elsewhere(&self) -> Option<(Weak<Vec<u8>>, usize)> {
        match self {
            Self::Large(bytes) if Arc::strong_count(bytes) > 1 => {
                Some((Arc::downgrade(bytes), bytes.len()))
            }
            _ => None,
        }
    }

    /// Appends. Gives the old contents as [`Stored::shared_elsewhere`] does, where they were copied.
    pub(super) fn append(&mut self, more: Value) -> Option<(Weak<Vec<u8>>, usize)> {
        match self {
            Self::Small(bytes) if bytes.is_empty() => *self = Self::new(more),
            Self::Small(bytes) => {
                let mut all = Vec::with_capacity(bytes.len() + more.len());
                all.extend_from_slice(bytes);
                all.extend_from_slice(&more);
                *self = Self::new(all.into_boxed_slice());
            }
            Self::Large(bytes) => {
                if let Some(own) = Arc::get_mut(bytes) {
                    own.extend_from_slice(&more);
                } else {
                    let faded = (Arc::downgrade(bytes), bytes.len());
                    let mut all = Vec::with_capacity(bytes.len() + more.len());
                    all.extend_from_slice(bytes);
                    all.extend_from_slice(&more);
                    *bytes = Arc::new(all);
                    return Some(faded);
                }
            }
        }
        None
    }
}

/// What `std::stoll` makes of it: blanks, a sign, digits; what follows them does not matter.
pub(super) fn leading_number(bytes: &[u8]) -> Option<i64> {
    let start = bytes.iter().position(|b| !matches!(b, b' ' | 9..=13))?;
    let bytes = &bytes[start..];
    let (negative, digits) = match bytes.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, bytes),
    };
    let len = digits.iter().take_while(|b| b.is_ascii_digit()).count();
    if len == 0 {
        return None;
    }
    digits[..len].iter().try_fold(0i64, |sum, digit| {
        let digit = i64::from(digit - b'0');
        sum.checked_mul(10)?.checked_add(if negative { -digit } else { digit })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_stoll_does() {
        for (text, number) in [
            ("0", Some(0)),
            ("-12", Some(-12)),
            (" \t\n+7", Some(7)),
            ("12abc", Some(12)),
            ("0x10", Some(0)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("", None),
            (" ", None),
            ("-", None),
            ("- 1", None),
            ("abc", None),
            ("1\0junk", Some(1)),
        ] {
            assert_eq!(leading_number(text.as_bytes()), number, "{text:?}");
        }
    }

    #[test]
    fn a_value_takes_sixteen_bytes() {
        assert_eq!(size_of::<Stored>(), 16);
    }

    #[test]
    fn appending_leaves_what_is_being_sent_as_it_was() {
        let mut value = Stored::new(vec![1; LARGE].into_boxed_slice());
        let Stored::Large(sent) = value.clone() else { panic!("large") };
        let (weak, len) = value.append(Box::new([2])).expect("it was shared");
        assert_eq!((sent.len(), len, value.bytes().len()), (LARGE, LARGE, LARGE + 1));
        assert_eq!(weak.strong_count(), 1);
        drop(sent);
        assert_eq!(weak.strong_count(), 0);
        assert!(value.append(Box::new([3])).is_none());
        assert_eq!(&value.bytes()[LARGE..], [2, 3]);
    }
}
