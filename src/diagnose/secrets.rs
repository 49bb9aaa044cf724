//! What is nobody's business, taken out of everything that nvlaunch shows or writes.
//!
//! A leftover is named by its command line, a plan by its variables, in texts that people paste into
//! issues. The value of something that looks like a key, a token or a password is replaced; what
//! merely might be one stays: the name of the program and its files are what a text is for.
//!
//! - K1: a value is kept back for its name ([`is_secret`]), or for what it looks like ([`scrub`]):
//!   a URL with a password, `token=…` and `--token …` within a text, the marks that services begin
//!   tokens with.
//! - K2: no value that is kept back leaves a trace, but for [`fingerprint`].

use std::borrow::Cow;
use std::ops::Range;

/// What stands in place of a secret.
pub const HIDDEN: &str = "***";

/// Words of a name whose value is kept back.
const NAMES: [&str; 9] = [
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "apikey",
    "bearer",
    "cookie",
    "authorization",
];
/// The same at the end of a word, as in `PGPASSWORD` and `authToken`; `--tokenizer` and
/// `--max-tokens` stay readable.
const ENDS: [&str; 13] = [
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "apikey",
    "accesskey",
    "privatekey",
    "secretkey",
    "credential",
    "credentials",
    "creds",
    "auth",
];
/// Words that make the `key` after them one that is kept back.
const KEYS: [&str; 16] = [
    "api",
    "access",
    "private",
    "secret",
    "auth",
    "account",
    "storage",
    "encryption",
    "signing",
    "master",
    "ssh",
    "license",
    "service",
    "session",
    "client",
    "deploy",
];
/// What services begin their tokens with.
const MARKS: [&str; 20] = [
    "hf_",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "sk-",
    "sk_",
    "xoxb-",
    "xoxp-",
    "xoxa-",
    "AKIA",
    "ASIA",
    "AIza",
    "npm_",
    "pypi-",
    "nvapi-",
    "eyJ",
];
/// In the first line of a private key, and in its last.
const PRIVATE_KEY: &str = "PRIVATE KEY-----";
/// Letters and digits of a token after its mark, at least.
const MARKED: usize = 16;

/// The words of a command line, joined by spaces, secrets replaced.
pub fn redact<S: AsRef<str>>(words: &[S]) -> String {
    redact_words(words).join(" ")
}

/// The words of a command line, secrets replaced.
pub fn redact_words<S: AsRef<str>>(words: &[S]) -> Vec<String> {
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
            Some((name, _)) if is_name(name) && is_secret(name) => {
                shown.push(format!("{name}={HIDDEN}"));
            }
            None if is_option && is_secret(word) => {
                hide_next = true;
                shown.push(word.to_owned());
            }
            _ => shown.push(scrub(word)),
        }
    }
    shown
}

/// The value of something with that name, as it may be shown.
pub fn shown(name: &str, value: &str) -> String {
    if is_secret(name) && !value.is_empty() { HIDDEN.to_owned() } else { scrub(value) }
}

/// Whether this is one name, and no URL or JSON with a name in it.
fn is_name(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | '/' | '~' | '@'))
}

/// Whether the value of something with that name is kept back.
pub fn is_secret(name: &str) -> bool {
    // A name, not a sentence: `python -c "print(token == 3)"` is a program.
    if name.contains(char::is_whitespace) {
        return false;
    }
    let is_variable = name.contains('_') && !name.contains(|c: char| c.is_ascii_lowercase());
    let name = split_humps(name).to_ascii_lowercase();
    let words: Vec<&str> =
        name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let of_word = |word: &&str| {
        NAMES.contains(word)
            || ENDS.iter().any(|end| word.ends_with(end))
            // `AUTHTOKEN` and `auth0`, but no author, and no authority.
            || word.starts_with("auth") && !word.starts_with("author")
    };
    // As a variable, a name that ends so is hardly anything else: `OPENAI_KEY`, `MYSQL_PWD`.
    let last = words.last().copied().unwrap_or_default();
    words.iter().any(of_word)
        || words.windows(2).any(|pair| KEYS.contains(&pair[0]) && matches!(pair[1], "key" | "keys"))
        || words.windows(2).any(|pair| KEYS.contains(&pair[0]) && pair[1] == "tokens")
        || is_variable && words.len() > 1 && matches!(last, "key" | "keys" | "pwd" | "pat" | "pass")
}

/// `hfToken` is two words.
fn split_humps(name: &str) -> String {
    let mut split = String::with_capacity(name.len() + 4);
    let mut was_small = false;
    for letter in name.chars() {
        if was_small && letter.is_ascii_uppercase() {
            split.push('-');
        }
        was_small = letter.is_ascii_lowercase() || letter.is_ascii_digit();
        split.push(letter);
    }
    split
}

/// A text without what looks like a secret in it.
pub fn scrub(text: &str) -> String {
    if text.contains(PRIVATE_KEY) {
        return HIDDEN.to_owned();
    }
    let text = replaced(Cow::Borrowed(text), password_spans);
    let text = Cow::Owned(without_pairs(&text).into_owned());
    let text = replaced(text, option_spans);
    replaced(text, marked_spans).into_owned()
}

/// The parts of a text that look like secrets, whatever name stands before them, in their order; none
/// lies within another.
pub fn spans(text: &str) -> Vec<Range<usize>> {
    let all = [key_spans(text), password_spans(text), option_spans(text), marked_spans(text)];
    let mut all: Vec<Range<usize>> = all.into_iter().flatten().collect();
    all.sort_by_key(|span| span.start);
    let mut apart: Vec<Range<usize>> = Vec::with_capacity(all.len());
    for span in all {
        match apart.last_mut() {
            Some(last) if span.start < last.end => last.end = last.end.max(span.end),
            _ => apart.push(span),
        }
    }
    apart
}

/// The text with [`HIDDEN`] in place of these parts of it.
fn replaced(text: Cow<'_, str>, find: impl Fn(&str) -> Vec<Range<usize>>) -> Cow<'_, str> {
    // What has stars already keeps them all: a caret below it stays where it belongs.
    let is_hidden = |span: &Range<usize>| {
        !span.is_empty() && text[span.clone()].bytes().all(|byte| byte == b'*')
    };
    let mut spans = find(&text);
    spans.retain(|span| !is_hidden(span));
    if spans.is_empty() {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for span in spans {
        out.push_str(&text[done..span.start]);
        out.push_str(HIDDEN);
        done = span.end;
    }
    out.push_str(&text[done..]);
    Cow::Owned(out)
}

/// A private key, from its first line to its last.
fn key_spans(text: &str) -> Vec<Range<usize>> {
    let (Some(first), Some(last)) = (text.find(PRIVATE_KEY), text.rfind(PRIVATE_KEY)) else {
        return Vec::new();
    };
    let start = text[..first].rfind("-----").unwrap_or(first);
    // Without a last line it reaches to the end.
    let end = if first == last { text.len() } else { last + PRIVATE_KEY.len() };
    std::iter::once(start..end).collect()
}

/// `https://user:password@host`: the password, wherever it stands in a text.
fn password_spans(text: &str) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    let mut from = 0;
    while let Some(at) = text[from..].find("://") {
        let start = from + at + 3;
        let scheme = text[from..start].trim_end_matches("://");
        let scheme = scheme.rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        let after = &text[start..];
        let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>');
        let mut end = after.find(ends).unwrap_or(after.len());
        if let Some(next) = after[..end].find("://") {
            // A list of them in one word.
            let is_of_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
            end = after[..next].trim_end_matches(is_of_scheme).len();
        }
        let span = of_url(scheme, &after[..end]);
        spans.extend(span.map(|span| start + span.start..start + span.end));
        from = start + end;
    }
    spans
}

/// What is secret of that which follows `://`.
fn of_url(scheme: &str, url: &str) -> Option<Range<usize>> {
    let end = url.find(['/', '?', '#']).unwrap_or(url.len());
    let has_odd_password = || {
        // A password with a slash: what follows the colon is no port.
        let (_, after) = url[..end].split_once(':').filter(|_| !url.starts_with('['))?;
        let is_port = after.bytes().all(|byte| byte.is_ascii_digit());
        url.rfind('@').filter(|_| !is_port)
    };
    let at = url[..end].rfind('@').or_else(has_odd_password)?;
    match url[..at].split_once(':') {
        Some((user, _)) if user.len() < MARKED => Some(user.len() + 1..at),
        None if matches!(scheme, "ssh" | "sftp" | "rsync") => None,
        // A token may stand alone, or in the user's place.
        _ => Some(0..at),
    }
}

/// `--token …` within a text, as in arguments that are kept in one: what follows it.
fn option_spans(text: &str) -> Vec<Range<usize>> {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let is_between = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',');
    let mut spans: Vec<Range<usize>> = Vec::new();
    for (at, _) in text.match_indices('-') {
        let is_inside = text[..at].ends_with(|c: char| is_of_name(c) || c == '/');
        if is_inside || spans.last().is_some_and(|last| at < last.end) {
            continue;
        }
        let name = &text[at..];
        let name = &name[..name.find(|c| !is_of_name(c)).unwrap_or(name.len())];
        let after = &text[at + name.len()..];
        let value = after.trim_start_matches(is_between);
        let is_option = after.len() > value.len() && is_secret(name);
        if !is_option || value.is_empty() || value.starts_with('-') {
            continue;
        }
        let start = text.len() - value.len();
        let quote = text[..start].chars().next_back().filter(|c| matches!(c, '"' | '\''));
        let quoted = quote.and_then(|quote| value.find(quote));
        let length = match (quote, quoted) {
            (_, Some(length)) => length,
            (Some(_), None) => value.find('\n').unwrap_or(value.len()),
            (None, None) => {
                let word = &value[..value.find(char::is_whitespace).unwrap_or(value.len())];
                let closes = |c: char| matches!(c, '"' | '\'' | '`' | ')' | ']' | '}' | ',' | ';');
                word.trim_end_matches(closes).len()
            }
        };
        if length > 0 {
            spans.push(start..start + length);
        }
    }
    spans
}

/// `token=…`, `"api_key": "…"` and `Authorization: Bearer …` within a text.
fn without_pairs(text: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut done = 0;
    for (at, sign) in text.match_indices(['=', ':']) {
        if at < done {
            continue;
        }
        let before = text[..at].strip_suffix(['"', '\'']).unwrap_or(&text[..at]);
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let name = &before[before.trim_end_matches(is_of_name).len()..];
        let is_in_path = sign == ":" && before[..before.len() - name.len()].ends_with('/');
        if name.is_empty() || is_in_path || !is_secret(name) {
            continue;
        }
        let from = at + 1 + usize::from(sign == ":" && text[at + 1..].starts_with(' '));
        let quote = text[from..].chars().next().filter(|c| matches!(c, '"' | '\''));
        let from = from + usize::from(quote.is_some());
        let value = &text[from..];
        let stops = |c: char| c.is_whitespace() || matches!(c, '&' | ',' | ';' | ')' | '}' | ']');
        let length = match quote {
            Some(quote) => value.find(quote).unwrap_or(value.len()),
            // A map that holds it: `HF_TOKEN: {value: …, why: …}`.
            None if value.starts_with('{') => value.find('}').map_or(value.len(), |end| end + 1),
            None => {
                // The kind of the secret stands before it.
                let kinds = ["Bearer ", "Basic ", "Token ", "bearer ", "basic ", "token "];
                let kind = kinds.iter().find(|kind| value.starts_with(**kind));
                let skip = kind.map_or(0, |kind| kind.len());
                skip + value[skip..].find(stops).unwrap_or(value.len() - skip)
            }
        };
        if length == 0 || value.starts_with(['=', '/', '*']) {
            continue;
        }
        out.push_str(&text[done..from]);
        out.push_str(HIDDEN);
        done = from + length;
    }
    if done == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[done..]);
    Cow::Owned(out)
}

/// Tokens that are known by their first letters.
fn marked_spans(text: &str) -> Vec<Range<usize>> {
    if !MARKS.iter().any(|mark| text.contains(mark)) {
        return Vec::new();
    }
    let is_of_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let mut spans = Vec::new();
    let mut from = 0;
    while let Some(at) = text[from..].find(is_of_token) {
        let start = from + at;
        let word = &text[start..];
        let word = &word[..word.find(|c| !is_of_token(c)).unwrap_or(word.len())];
        let is_token = MARKS.iter().filter_map(|mark| word.strip_prefix(mark)).any(|after| {
            after.len() >= MARKED
                && after.bytes().any(|byte| byte.is_ascii_digit())
                && after.bytes().any(|byte| byte.is_ascii_alphabetic())
        });
        if is_token {
            spans.push(start..start + word.len());
        }
        from = start + word.len();
    }
    spans
}

/// Eight bits of a secret, so that two plans can be told apart where one was changed.
///
/// It is the same for one text in 256: nobody finds a secret by it, and however many plans are
/// written, they all hold the same eight bits. A salted hash of full length would be tried out
/// against every word of a dictionary.
pub fn fingerprint(name: &str, value: &str) -> String {
    let bytes = name.bytes().chain([0]).chain(value.bytes());
    // FNV-1a, folded.
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{:02x}", hash.to_le_bytes().into_iter().fold(0, |folded, byte| folded ^ byte))
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
            (
                &["x", "--hfToken", "abc", "--wandb.api_key=d"],
                "x --hfToken *** --wandb.api_key=***",
            ),
            (&["curl", "-H", "Authorization: Bearer ab.c"], "curl -H Authorization: ***"),
            (&["x", "+trainer.logger.token=abc"], "x +trainer.logger.token=***"),
            (
                &["x", "--config={\"api_key\": \"abc\", \"lr\": 1}"],
                "x --config={\"api_key\": \"***\", \"lr\": 1}",
            ),
            (&["x", "s3://b?token=abc&lr=1"], "x s3://b?token=***&lr=1"),
        ] {
            assert_eq!(redact(words), shown);
        }
        assert_eq!(redact::<&str>(&[]), "");
    }

    #[test]
    fn names_of_secrets() {
        let secret = "AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN WANDB_API_KEY HF_TOKEN \
            HUGGING_FACE_HUB_TOKEN DB_PASSWORD KEY_PASSPHRASE GOOGLE_APPLICATION_CREDENTIALS \
            REGISTRY_AUTH BASICAUTH DOCKER_AUTH_CONFIG NPM_AUTHTOKEN PGPASSWORD MYSQL_PWD \
            OPENAI_KEY AZURE_STORAGE_ACCOUNT_KEY GITHUB_PAT SMTP_PASS apiKey accessToken hfToken \
            --api-key --hf-token --wandb.api_key client_secret SLACK_TOKEN CREDS COMET_API_KEY \
            NCCL_AUTH_TOKEN private-key API_KEYS oauth";
        for name in secret.split_whitespace() {
            assert!(is_secret(name), "{name}");
        }
        let open = "PWD OLDPWD PATH HOME --tokenizer --max-tokens --key --sort-key AUTHOR --author \
            XAUTHORITY NCCL_DEBUG CUDA_VISIBLE_DEVICES OMP_NUM_THREADS MASTER_ADDR KEYBOARD \
            --secretary --bypass NCCL_IB_PKEY TORCHELASTIC_RUN_ID --patience LD_LIBRARY_PATH";
        for name in open.split_whitespace() {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn secrets_within_texts() {
        for (text, shown) in [
            ("https://ghp_x@github.com/a", "https://***@github.com/a"),
            ("ssh://git@host/a", "ssh://git@host/a"),
            ("redis://:pw@host", "redis://:***@host"),
            ("http://u:p/w@host/x", "http://u:***@host/x"),
            ("git+https://host:443/a@v1", "git+https://host:443/a@v1"),
            ("http://a:b@c,http://d:e@f", "http://a:***@c,http://d:***@f"),
            ("see http://a:b@c and http://d:e@f/", "see http://a:***@c and http://d:***@f/"),
            ("http://[::1]:80/x@y", "http://[::1]:80/x@y"),
            ("key hf_abcdefghijklmnopqrs1 end", "key *** end"),
            ("hf_models_and_their_folders", "hf_models_and_their_folders"),
            ("AKIAABCDEFGHIJKLMNO1", "***"),
            ("--resume {path} --hf-token abc --x 1", "--resume {path} --hf-token *** --x 1"),
            ("--api-key 'a b' c", "--api-key '***' c"),
            ("[\"--password\", \"a b\", 1]", "[\"--password\", \"***\", 1]"),
            ("{a: --token abc}", "{a: --token ***}"),
            ("a=--token\nabc\nd", "a=--token\n***\nd"),
            ("--token --secret ab", "--token --secret ***"),
            ("--tokenizer gpt2 my-token x", "--tokenizer gpt2 my-token x"),
            ("--token *****, x", "--token *****, x"),
            ("`--token` is not known", "`--token` is not known"),
            ("`--token abc` is no backend", "`--token ***` is no backend"),
            ("/a/token:/b", "/a/token:/b"),
            ("cpu:gloo,cuda:nccl", "cpu:gloo,cuda:nccl"),
            ("-----BEGIN PRIVATE KEY-----\nabc", "***"),
            ("  HF_TOKEN: {value: abc, wyh: x}\n  A: 1", "  HF_TOKEN: ***\n  A: 1"),
            ("password: 'a b', user: c", "password: '***', user: c"),
        ] {
            assert_eq!(scrub(text), shown);
            assert_eq!(scrub(shown), shown, "it stays as it is");
        }
        assert_eq!(super::shown("HF_TOKEN", "abc"), HIDDEN);
        assert_eq!(super::shown("HF_TOKEN", ""), "");
        assert_eq!(super::shown("HF_HOME", "/a"), "/a");
    }

    #[test]
    fn a_fingerprint_tells_changes_and_little_else() {
        assert_eq!(fingerprint("A", "x"), fingerprint("A", "x"));
        assert_ne!(fingerprint("A", "x"), fingerprint("A", "y"));
        assert_ne!(fingerprint("A", "x"), fingerprint("B", "x"));
        assert_eq!(fingerprint("A", "x").len(), 2);
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_strange(text in "(?s)[ -~\n\u{e9}]{0,80}") {
            let once = scrub(&text);
            proptest::prop_assert_eq!(scrub(&once), once);
        }

        #[test]
        fn nothing_of_a_password_is_left(word in "[A-Z]{6}[a-z0-9/@#?]{0,9}") {
            for text in [format!("http://me:{word}@host/x"), format!("a --token={word}")] {
                let text = redact(&text.split(' ').collect::<Vec<_>>());
                proptest::prop_assert!(!text.contains(&word[..6]), "{}", text);
            }
        }
    }
}
