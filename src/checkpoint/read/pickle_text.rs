//! The texts of protocol 0, which are written as Python writes literals.

/// `UNICODE`: Latin-1 with `\uXXXX` and `\UXXXXXXXX`; never longer than twice the line.
pub(super) fn unicode_line(line: &[u8]) -> Option<Vec<u8>> {
    let mut text = String::new();
    let mut at = 0;
    while let Some(&byte) = line.get(at) {
        let digits = match (byte, line.get(at + 1)) {
            (b'\\', Some(b'u')) => 4,
            (b'\\', Some(b'U')) => 8,
            _ => {
                text.push(char::from(byte));
                at += 1;
                continue;
            }
        };
        let code = str::from_utf8(line.get(at + 2..at + 2 + digits)?).ok()?;
        let code = u32::from_str_radix(code, 16).ok()?;
        text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        at += 2 + digits;
    }
    Some(text.into_bytes())
}

/// `STRING`: a Python literal in quotes; never longer than the line.
pub(super) fn quoted_line(line: &[u8]) -> Option<Vec<u8>> {
    let line = line.trim_ascii();
    let (&quote, rest) = line.split_first()?;
    let (&end, inner) = rest.split_last()?;
    if end != quote || !matches!(quote, b'\'' | b'"') {
        return None;
    }
    let mut text = Vec::new();
    let mut bytes = inner.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            text.push(byte);
            continue;
        }
        match bytes.next()? {
            b'n' => text.push(b'\n'),
            b'r' => text.push(b'\r'),
            b't' => text.push(b'\t'),
            b'x' => {
                let digits = [bytes.next()?, bytes.next()?];
                text.push(u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()?);
            }
            byte @ (b'\\' | b'\'' | b'"') => text.push(byte),
            byte => text.extend([b'\\', byte]),
        }
    }
    Some(text)
}
