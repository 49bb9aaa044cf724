//! Command lines of other programs, without what is nobody's business.
//!
//! A leftover is named by its command line, in a report that people paste into issues. The value of
//! a word that looks like a key, a token or a password is replaced; what merely might be one stays:
//! the name of the program and its files are what the report is for.

/// Words in a name whose value is kept back: whole ones, so that `--tokenizer` and `--max-tokens`
/// stay readable.
const NAMES: [&str; 8] =
    ["token", "secret", "password", "passwd", "passphrase", "apikey", "credential", "credentials"];
/// Words that make the `key` after them one that is kept back.
const KEYS: [&str; 4] = ["api", "access", "private", "secret"];
const HIDDEN: &str = "***";

/// The words of a command line, joined by spaces, secrets replaced.
pub fn redact<S: AsRef<str>>(words: &[S]) -> String {
    let mut shown: Vec<String> = Vec::with_capacity(words.len());
    let mut hide_next = false;
    for word in words {
        let word = word.as_ref();
        let is_option = word.starts_with('-');
        if std::mem::take(&mut hide_next) && !is_option {
            shown.push(HIDDEN.to_owned());
            continue;
        }
        match word.split_once('=') {
            Some((name, _)) if is_secret(name) => shown.push(format!("{name}={HIDDEN}")),
            None if is_option && is_secret(word) => {
                hide_next = true;
                shown.push(word.to_owned());
            }
            _ => shown.push(without_password(word)),
        }
    }
    shown.join(" ")
}

/// Whether the value of something with that name is kept back.
pub fn is_secret(name: &str) -> bool {
    // A name, not a sentence: `python -c "print(token == 3)"` is a program.
    if name.contains(char::is_whitespace) {
        return false;
    }
    let name = name.to_ascii_lowercase();
    let words: Vec<&str> = name.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    words.iter().any(|word| NAMES.contains(word))
        || words.windows(2).any(|pair| KEYS.contains(&pair[0]) && pair[1] == "key")
}

/// `https://user:password@host` without the password.
pub fn without_password(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else { return word.to_owned() };
    let (place, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match place.rsplit_once('@') {
        Some((who, host)) => {
            let user = who.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:{HIDDEN}@{host}{path}")
        }
        None => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_secrets_are_kept_back_and_nothing_else() {
        for (words, shown) in [
            (&["upload.py", "--token", "abc", "data"][..], "upload.py --token *** data"),
            (&["upload.py", "--api-key=abc"], "upload.py --api-key=***"),
            (&["env", "WANDB_API_KEY=abc", "x"], "env WANDB_API_KEY=*** x"),
            (&["x", "--password", "--force"], "x --password --force"),
            (&["git", "push", "https://me:pw@host/a?b=c"], "git push https://me:***@host/a?b=c"),
            (&["python", "train.py", "--lr=1"], "python train.py --lr=1"),
            (&["python", "-c", "print(token == 3)"], "python -c print(token == 3)"),
            (&["x", "--tokenizer", "gpt2"], "x --tokenizer gpt2"),
            (&["x", "--max-tokens=9", "--key", "k"], "x --max-tokens=9 --key k"),
            (&["x", "--AWS_SECRET_ACCESS_KEY=k"], "x --AWS_SECRET_ACCESS_KEY=***"),
        ] {
            assert_eq!(redact(words), shown);
        }
        assert_eq!(redact::<&str>(&[]), "");
    }
}
