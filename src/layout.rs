//! Lays out texts for people: no line is wider than 80 columns where words allow it.

/// Columns of a line.
pub const WIDTH: usize = 80;

/// Breaks a text into lines of at most `width` characters, at spaces. A longer word stays whole.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    flow("", "", text, width)
}

/// The same for [`WIDTH`], with `first` before the first line and `rest` before the others.
pub fn hang(first: &str, rest: &str, text: &str) -> Vec<String> {
    flow(first, rest, text, WIDTH)
}

fn flow(first: &str, rest: &str, text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![first.to_owned()];
    let mut is_start = true;
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always a line");
        let is_full = line.chars().count() + word.chars().count() > width;
        if is_start && is_full && !line.trim().is_empty() {
            // What stands before the text is long itself, as a path is.
            lines.push(format!("{rest}{word}"));
        } else if is_start {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(format!("{rest}{word}"));
        }
        is_start = false;
    }
    lines
}

/// One line without escape sequences and control characters: what a file or a log says must not
/// move the cursor.
pub fn plain(text: &str) -> String {
    let text = anstream::adapter::strip_str(text).to_string();
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(printable).collect::<String>().trim().to_owned()
}

/// The line, or as much of it as fits and an ellipsis.
pub fn cut(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        return line.to_owned();
    }
    let mut cut: String = line.chars().take(width.saturating_sub(1)).collect();
    cut.truncate(cut.trim_end().len());
    cut + "…"
}

/// A number of bytes for eyes: `64 MiB`, `1.2 GiB`
#[expect(clippy::cast_precision_loss, reason = "rounded for eyes")]
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["bytes", "KiB", "MiB", "GiB", "TiB"].into_iter();
    let mut unit = units.next().expect("there are some");
    for next in units {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if value < 10.0 && value.fract() > 0.05 {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_and_long_words_stay_whole() {
        let text = "word ".repeat(40);
        let lines = hang("start: ", "  ", &text);
        assert!(lines.len() > 2 && lines.iter().all(|line| line.chars().count() <= WIDTH));
        assert!(lines[0].starts_with("start: word") && lines[1].starts_with("  word"));
        let long = "x".repeat(100);
        assert_eq!(hang("a ", "  ", &format!("b {long}")), ["a b".to_owned(), format!("  {long}")]);
        assert_eq!(hang("a ", "  ", ""), ["a "]);
        let path = format!("{}: ", "p".repeat(78));
        assert_eq!(hang(&path, "  ", "is too long"), [path.clone(), "  is too long".to_owned()]);
        assert_eq!(wrap(&long, WIDTH), [long]);
    }

    #[test]
    fn nothing_moves_the_cursor() {
        assert_eq!(plain("\u{1b}[31mred\u{1b}[0m\r\n\tand\u{7}"), "red  \tand".replace('\t', " "));
        assert_eq!(cut("a bc", 4), "a bc");
        assert_eq!(cut("a bcd", 4), "a b…");
        assert_eq!(cut("a bcd", 3), "a…");
    }
}
