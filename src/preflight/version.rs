//! Versions of drivers, `PyTorch` and NCCL: numbers between dots, compared number by number.

use std::cmp::Ordering;

/// A version such as `580.82.09`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(Vec<u32>);

impl Version {
    /// The numbers at the beginning of `text`; `None` where it begins with none. What follows
    /// (`+cu128`, `-0ubuntu1`, `rc1`) is left out.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = Vec::new();
        for part in text.trim().split('.') {
            let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let Ok(number) = part[..digits].parse() else { break };
            numbers.push(number);
            if digits < part.len() {
                break;
            }
        }
        (!numbers.is_empty()).then_some(Self(numbers))
    }

    /// The first number.
    pub fn major(&self) -> u32 {
        self.0[0]
    }

    /// The second number, 0 where there is none.
    pub fn minor(&self) -> u32 {
        self.0.get(1).copied().unwrap_or(0)
    }

    /// Whether it is `other` or later; numbers that are missing count as 0.
    pub fn is_at_least(&self, other: &[u32]) -> bool {
        self.order(other) != Ordering::Less
    }

    fn order(&self, other: &[u32]) -> Ordering {
        let at = |list: &[u32], i: usize| list.get(i).copied().unwrap_or(0);
        (0..self.0.len().max(other.len()))
            .map(|i| at(&self.0, i).cmp(&at(other, i)))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    }

    /// Compares two as the driver does. Leading zeros count for nothing (`580.95.05`).
    pub fn compare(&self, other: &Self) -> Ordering {
        self.order(&other.0)
    }
}

/// A package's version without epoch and revision: `580.95.05` of `1:580.95.05-0ubuntu1`.
pub fn upstream(package: &str) -> &str {
    let text = package.rsplit_once(':').map_or(package, |(_, rest)| rest);
    let end = text.find(['-', '+', '~']).unwrap_or(text.len());
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        let table = [
            ("580.82.09", "580.95.05", Ordering::Less),
            ("550.163.01", "550.54.14", Ordering::Greater),
            ("580.95.05", "580.95.5", Ordering::Equal),
            ("570", "570.0", Ordering::Equal),
            ("2.8.0+cu128", "2.15.0", Ordering::Less),
            ("2.2.0a0+git1", "2.2.0", Ordering::Equal),
        ];
        for (a, b, order) in table {
            let parse = |text| Version::parse(text).expect("is one");
            assert_eq!(parse(a).compare(&parse(b)), order, "{a} {b}");
        }
        for bad in ["", "x", ".1", "99999999999"] {
            assert_eq!(Version::parse(bad), None, "{bad}");
        }
        assert_eq!(Version::parse("12.").map(|v| (v.major(), v.minor())), Some((12, 0)));
    }

    #[test]
    fn packages_wrap_the_version() {
        for text in
            ["1:580.95.05-0ubuntu0.24.04.2", "580.95.05", "3:580.95.05-1.fc42", "580.95.05~x"]
        {
            assert_eq!(upstream(text), "580.95.05", "{text}");
        }
    }
}
