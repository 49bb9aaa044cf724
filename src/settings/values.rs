//! Reads the values of options, one function for each kind. All pure.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::error::Problem;
use super::spec::{
    Backoff, CompatChoice, MAX_RANKS, NumaBinding, OmpThreads, OnUnfinished, PreflightMode,
    ProcCount, SignalScope, StdinChoice, StoreHost, StreamMap, Streams, WarmAt,
};
use crate::checkpoint::{Layout, style};
use crate::host::vendors;

/// The longest time that can be asked for.
const MAX_TIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// `1`, `0`, `true`, `no`: torchrun reads whole numbers only.
pub fn flag(text: &str) -> Result<bool, Problem> {
    let word = text.trim().to_ascii_lowercase();
    match word.as_str() {
        "true" | "yes" | "on" => Ok(true),
        "false" | "no" | "off" => Ok(false),
        number => number.parse::<i64>().map(|number| number != 0).map_err(|_| {
            Problem::new(format!("`{text}` is neither yes nor no"), "use 1 or 0, yes or no")
        }),
    }
}

/// A number of ranks or what to count.
pub fn nproc(text: &str) -> Result<ProcCount, Problem> {
    let hint = || format!("give a number from 1 to {MAX_RANKS}, or auto, gpu, cpu");
    let word = text.trim();
    match word {
        "" => return Err(Problem::new("the number of ranks is empty", hint())),
        "auto" => return Ok(ProcCount::Auto),
        "gpu" => return Ok(ProcCount::Gpu),
        "cpu" => return Ok(ProcCount::Cpu),
        kind if vendors::find(kind).is_some() => {
            return Ok(ProcCount::Device(kind.to_owned()));
        }
        _ => {}
    }
    // More digits than any integer has are a number too.
    let digits = word.strip_prefix(['-', '+']).unwrap_or(word);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let words = ["auto", "gpu", "cpu"].into_iter();
        let known = words.chain(vendors::names());
        let hint = match nearest(word, known.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("give a number, or one of {}", known.collect::<Vec<_>>().join(", ")),
        };
        return Err(Problem::new(format!("`{text}` is no number of ranks"), hint));
    }
    if word.starts_with('-') || digits.bytes().all(|byte| byte == b'0') {
        return Err(Problem::new(format!("`{text}` ranks cannot be started"), hint()));
    }
    match digits.parse() {
        Ok(count) if count <= MAX_RANKS => Ok(ProcCount::Count(count)),
        _ => Err(Problem::new(
            format!("`{text}` ranks are more than one node can have"),
            format!("the most is {MAX_RANKS}"),
        )),
    }
}

/// Restarts, 0 or more.
pub fn max_restarts(text: &str) -> Result<u32, Problem> {
    text.trim()
        .parse()
        .map_err(|_| Problem::new(format!("`{text}` is no number of restarts"), "give 0 or more"))
}

/// Seconds, or a time with a unit.
pub fn duration(text: &str) -> Result<Duration, Problem> {
    let bad = |why: &str| {
        Problem::new(format!("`{text}` {why}"), "give seconds, or a time such as 30s or 5m")
    };
    let word = text.trim();
    let time = match word.parse::<f64>() {
        Ok(seconds) if seconds < 0.0 => return Err(bad("is less than no time")),
        Ok(seconds) => {
            Duration::try_from_secs_f64(seconds).map_err(|_| bad("is no time to wait"))?
        }
        Err(_) => humantime::parse_duration(word).map_err(|_| bad("is no time"))?,
    };
    if time > MAX_TIME { Err(bad("is longer than a year")) } else { Ok(time) }
}

/// A time that says its unit, as files must.
pub fn time_with_unit(text: &str) -> Result<Duration, Problem> {
    let word = text.trim();
    if word.parse::<f64>().is_ok() {
        let hint = format!("write `{word}s` for seconds, or another unit, as in 5m");
        return Err(Problem::new(format!("`{text}` has no unit"), hint));
    }
    let time = duration(text);
    time.map_err(|problem| Problem { hint: Some("write 30s, 5m or 1h".to_owned()), ..problem })
}

/// A time with its unit in which something can be done.
pub fn deadline(text: &str) -> Result<Duration, Problem> {
    let time = time_with_unit(text)?;
    if time.is_zero() {
        let hint = "nothing is done in no time: write 30s, 5m or 1h";
        return Err(Problem::new(format!("`{text}` is no time to wait"), hint));
    }
    Ok(time)
}

/// A whole number within bounds, or one of some words.
pub fn number(text: &str, least: u32, most: u32, words: &[&str]) -> Result<(), Problem> {
    let word = text.trim();
    if words.contains(&word) {
        return Ok(());
    }
    let or = if words.is_empty() { String::new() } else { format!(", {}", words.join(", ")) };
    let hint = match most {
        u32::MAX => format!("give a number from {least}{or}"),
        _ => format!("give a number from {least} to {most}{or}"),
    };
    match word.parse::<i128>() {
        Ok(number) if (i128::from(least)..=i128::from(most)).contains(&number) => Ok(()),
        Ok(_) => Err(Problem::new(format!("`{text}` is out of range"), hint)),
        Err(_) => match nearest(word, words.iter().copied()) {
            Some(near) => Err(Problem::new(
                format!("`{text}` is no number"),
                format!("did you mean `{near}`?"),
            )),
            None => Err(Problem::new(format!("`{text}` is no number"), hint)),
        },
    }
}

/// One of some words.
pub fn one_of(text: &str, words: &'static [&'static str]) -> Result<(), Problem> {
    let known: Vec<(&str, ())> = words.iter().map(|word| (*word, ())).collect();
    word(text, &known)
}

/// What `OMP_NUM_THREADS` becomes.
pub fn omp_threads(text: &str) -> Result<OmpThreads, Problem> {
    match text.trim() {
        "auto" => Ok(OmpThreads::Auto),
        "keep" => Ok(OmpThreads::Keep),
        number => number.parse().map(OmpThreads::Count).map_err(|_| {
            Problem::new(format!("`{text}` is no number of threads"), "give a number, auto or keep")
        }),
    }
}

/// A number of nodes that can be started today.
pub fn one_node(text: &str) -> Result<(), Problem> {
    match nodes(text)? {
        (_, 1) => Ok(()),
        _ => Err(Problem::new(
            format!("a job of several nodes is not built yet, and {text} were asked for"),
            "write 1",
        )),
    }
}

/// A number of seconds, for options whose value is only checked.
pub fn seconds(text: &str) -> Result<f64, Problem> {
    text.trim().parse().map_err(|_| {
        Problem::new(format!("`{text}` is no number of seconds"), "give a number such as 0.1")
    })
}

/// `spawn`, `fork` or `forkserver`.
pub fn start_method(text: &str) -> Result<&str, Problem> {
    word(text, &[("spawn", "spawn"), ("fork", "fork"), ("forkserver", "forkserver")])
}

/// `rank` or `group`.
pub fn signal_scope(text: &str) -> Result<SignalScope, Problem> {
    word(text, &[("rank", SignalScope::Rank), ("group", SignalScope::Group)])
}

/// `auto`, `full` or `off`.
pub fn preflight_mode(text: &str) -> Result<PreflightMode, Problem> {
    word(
        text,
        &[
            ("auto", PreflightMode::Auto),
            ("full", PreflightMode::Full),
            ("off", PreflightMode::Off),
        ],
    )
}

/// A backend of `torch.distributed`, or one for each kind of device: `cpu:gloo,cuda:nccl`.
pub fn backend(text: &str) -> Result<String, Problem> {
    let name = text.trim();
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':' | ',');
    if name.is_empty() || !name.chars().all(fits) {
        let hint = "give a name such as nccl or gloo, or one for each kind: cpu:gloo,cuda:nccl";
        return Err(Problem::new(format!("`{text}` is no backend"), hint));
    }
    // PyTorch knows them in lower case only.
    Ok(name.to_ascii_lowercase())
}

/// Names of Python modules, separated by commas.
pub fn modules(text: &str) -> Result<Vec<String>, Problem> {
    let is_word = |word: &str| {
        let fits = |c: char| c.is_alphanumeric() || c == '_';
        word.chars().all(fits) && word.chars().next().is_some_and(|first| !first.is_numeric())
    };
    let mut modules = Vec::new();
    for name in text.split(',').map(str::trim) {
        if !name.split('.').all(is_word) {
            let hint = "give names of modules as in torch,torch.distributed";
            return Err(Problem::new(format!("`{name}` is no module"), hint));
        }
        modules.push(name.to_owned());
    }
    Ok(modules)
}

/// `start`, `restart` or `both`.
pub fn warm_at(text: &str) -> Result<WarmAt, Problem> {
    word(text, &[("start", WarmAt::Start), ("restart", WarmAt::Restart), ("both", WarmAt::Both)])
}

/// `nvlaunch` or `rank0`.
pub fn store(text: &str) -> Result<StoreHost, Problem> {
    word(text, &[("nvlaunch", StoreHost::Nvlaunch), ("rank0", StoreHost::Rank0)])
}

/// One of torchrun's modes.
pub fn numa_binding(text: &str) -> Result<NumaBinding, Problem> {
    word(
        text,
        &[
            ("node", NumaBinding::Node),
            ("socket", NumaBinding::Socket),
            ("exclusive", NumaBinding::Exclusive),
            ("core-complex", NumaBinding::CoreComplex),
        ],
    )
}

/// A local rank, `none` or `auto`.
pub fn stdin(text: &str) -> Result<StdinChoice, Problem> {
    match text.trim() {
        "auto" => Ok(StdinChoice::Auto),
        "none" => Ok(StdinChoice::None),
        rank => rank.parse().map(StdinChoice::Rank).map_err(|_| {
            Problem::new(format!("`{text}` is no rank"), "give a local rank, `none` or `auto`")
        }),
    }
}

/// `0` to `3`, or such a number for some local ranks: `0:1,12:3`.
pub fn streams(text: &str) -> Result<StreamMap, Problem> {
    let bad = |what: String| {
        Problem::new(what, "0 is none, 1 stdout, 2 stderr, 3 both; by local rank: 0:1,12:3")
    };
    let bits = |bits: &str| match bits.trim() {
        "0" => Ok(Streams { stdout: false, stderr: false }),
        "1" => Ok(Streams { stdout: true, stderr: false }),
        "2" => Ok(Streams { stdout: false, stderr: true }),
        "3" => Ok(Streams { stdout: true, stderr: true }),
        _ => Err(bad(format!("`{bits}` names no streams"))),
    };
    if !text.contains(':') {
        return bits(text).map(StreamMap::All);
    }
    let mut map = BTreeMap::new();
    for entry in text.split(',') {
        let (rank, of_rank) = entry
            .split_once(':')
            .ok_or_else(|| bad(format!("`{entry}` is not of the form RANK:STREAMS")))?;
        let rank = rank
            .trim()
            .parse::<u32>()
            .map_err(|_| bad(format!("`{rank}` in `{entry}` is no local rank")))?;
        map.insert(rank, bits(of_rank)?);
    }
    Ok(StreamMap::ByRank(map))
}

/// Local ranks, `0,1`: ascending, each once.
pub fn ranks(text: &str) -> Result<Vec<u32>, Problem> {
    let mut ranks = Vec::new();
    for rank in text.split(',') {
        ranks.push(rank.trim().parse::<u32>().map_err(|_| {
            Problem::new(format!("`{rank}` is no local rank"), "give local ranks as in 0,1,2")
        })?);
    }
    ranks.sort_unstable();
    ranks.dedup();
    Ok(ranks)
}

/// Texts to look for, separated by commas; `,,` is a comma. Nothing looks for nothing, though
/// torchrun takes an empty text for one that every line contains.
pub fn needles(text: &str) -> Vec<String> {
    let mut needles = vec![String::new()];
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter != ',' || letters.next_if_eq(&',').is_some() {
            needles.last_mut().expect("there is always one").push(letter);
        } else {
            needles.push(String::new());
        }
    }
    needles.retain(|needle| !needle.is_empty());
    needles
}

/// The signals of `--signals-to-handle` besides TERM, INT, HUP and QUIT, each once.
pub fn signals(text: &str) -> Result<Vec<i32>, Problem> {
    let mut extra = Vec::new();
    for name in text.split(',').filter(|_| !text.trim().is_empty()) {
        let name = name.trim();
        let known = Signal::iterator().map(Signal::as_str);
        let signal: Signal = name.parse().map_err(|_| {
            let hint =
                match nearest(&format!("SIG{name}"), known.clone().filter(|s| s.ends_with(name)))
                    .or_else(|| nearest(name, known))
                {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "give names as in SIGTERM,SIGUSR1".to_owned(),
                };
            Problem::new(format!("`{name}` is no signal"), hint)
        })?;
        match signal {
            Signal::SIGTERM | Signal::SIGINT | Signal::SIGHUP | Signal::SIGQUIT => {}
            Signal::SIGKILL | Signal::SIGSTOP => {
                return Err(Problem::new(
                    format!("{name} cannot be handled"),
                    "the kernel lets no process see it",
                ));
            }
            Signal::SIGCHLD
            | Signal::SIGSEGV
            | Signal::SIGBUS
            | Signal::SIGILL
            | Signal::SIGFPE => {
                return Err(Problem::new(
                    format!("{name} cannot end a job"),
                    "it says something of nvlaunch itself or of its children",
                ));
            }
            other => extra.push(other as i32),
        }
    }
    extra.sort_unstable();
    extra.dedup();
    Ok(extra)
}

/// Names for `--checkpoint-layout`.
pub const LAYOUTS: &[&str] = &[
    "auto",
    "dcp",
    "torchtitan",
    "deepspeed",
    "hf",
    "accelerate",
    "lightning",
    "megatron",
    "megatron-legacy",
    "nemo",
    "mmengine",
    "composer",
    "files",
];

/// Names for `--resume-style`.
pub const RESUME_STYLES: &[&str] = &[
    "none",
    "hf",
    "accelerate",
    "lightning",
    "torchtitan",
    "megatron",
    "deepspeed",
    "mmengine",
    "nemo",
    "composer",
];

/// A layout of checkpoints; `None` for `auto`.
pub fn layout(text: &str) -> Result<Option<Layout>, Problem> {
    if text.trim() == "auto" {
        return Ok(None);
    }
    one_of(text, LAYOUTS)?;
    Ok(Layout::from_name(text.trim()))
}

/// A framework's way of resuming; `None` for `none`.
pub fn resume_style(text: &str) -> Result<&'static str, Problem> {
    one_of(text, RESUME_STYLES)?;
    Ok(RESUME_STYLES.iter().find(|name| **name == text.trim()).expect("it is one of them"))
}

/// The name of a file with `{step}` in it once, in no folder.
pub fn checkpoint_pattern(text: &str) -> Result<String, Problem> {
    let bad = |what: &str| {
        Problem::new(format!("`{text}` {what}"), "give the name of a file as in step_{step}.pt")
    };
    match text.split_once("{step}") {
        None => Err(bad("has no {step} in it")),
        Some((_, rest)) if rest.contains("{step}") => Err(bad("has {step} in it twice")),
        Some(_) if text.contains('/') => Err(bad("names a folder")),
        Some(_) => Ok(text.to_owned()),
    }
}

/// Arguments with `{path}` and the like in them, as a shell would take them apart.
pub fn resume_arg(text: &str) -> Result<Vec<String>, Problem> {
    let hint =
        "knows {path}, {quoted} (for Hydra), {step}, {name} and {dir}, as in '--resume {path}'";
    let words = shlex::split(text)
        .ok_or_else(|| Problem::new(format!("`{text}` has a quote that does not end"), hint))?;
    for word in &words {
        if let Some(name) = style::unknown_place(word) {
            return Err(Problem::new(format!("`{{{name}}}` is not known"), hint));
        }
    }
    Ok(words)
}

/// A step of training, 1 or more.
pub fn step(text: &str) -> Result<u64, Problem> {
    match text.trim().parse() {
        Ok(step) if step > 0 => Ok(step),
        _ => Err(Problem::new(format!("`{text}` is no step"), "give a number from 1")),
    }
}

/// A wait that doubles, `1s..5m`; one time is both; `0s` is none; `auto` is not read here.
pub fn backoff(text: &str) -> Result<Backoff, Problem> {
    let (first, most) = text.split_once("..").unwrap_or((text, text));
    let time = |part: &str| {
        time_with_unit(part)
            .map_err(|problem| Problem { hint: Some("write 1s..5m, or 0s".to_owned()), ..problem })
    };
    let (first, most) = (time(first)?, time(most)?);
    if first > most {
        return Err(Problem::new(
            format!("`{text}` begins with more than it ends with"),
            "write the shorter time first, as in 1s..5m",
        ));
    }
    Ok(Backoff { first, most })
}

/// Exit codes of failures, with commas between them.
pub fn exit_codes(text: &str) -> Result<Vec<i32>, Problem> {
    let code = |word: &str| match word.trim().parse() {
        Ok(code) if (1..=255).contains(&code) => Ok(code),
        _ => Err(Problem::new(
            format!("`{}` is no exit code of a failure", word.trim()),
            "give numbers from 1 to 255",
        )),
    };
    text.split(',').map(code).collect()
}

/// `warn` or `fail`.
pub fn on_unfinished(text: &str) -> Result<OnUnfinished, Problem> {
    word(text, &[("warn", OnUnfinished::Warn), ("fail", OnUnfinished::Fail)])
}

/// `auto`, `off`, `cpu` or `gcu`.
pub fn compat(text: &str) -> Result<CompatChoice, Problem> {
    word(
        text,
        &[
            ("auto", CompatChoice::Auto),
            ("off", CompatChoice::Off),
            ("cpu", CompatChoice::Cpu),
            ("gcu", CompatChoice::Gcu),
        ],
    )
}

/// Signals by which a machine is taken away, each once.
pub fn stop_signals(text: &str) -> Result<Vec<i32>, Problem> {
    // Whatever ends a job may; the usual ones are not among those that `signals` gives back.
    let mut all = signals(text)?;
    let usual = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];
    let named = |signal: &Signal| text.split(',').any(|name| name.trim() == signal.as_str());
    all.extend(usual.iter().filter(|signal| named(signal)).map(|signal| *signal as i32));
    Ok(all)
}

/// A port, 0 to 65535.
pub fn port(text: &str) -> Result<u16, Problem> {
    text.trim().parse().map_err(|_| {
        Problem::new(format!("`{text}` is no port"), "give 0 to 65535; 0 is a free one")
    })
}

/// A host name or address; an IPv6 address may stand in brackets.
pub fn host(text: &str) -> Result<String, Problem> {
    let name = text.trim();
    let name = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | ':' | '-' | '%');
    if name.is_empty() || !name.chars().all(fits) {
        return Err(Problem::new(
            format!("`{text}` is no host name or address"),
            "give a name, an IPv4 address, or an IPv6 address in brackets",
        ));
    }
    Ok(name.to_owned())
}

/// `HOST`, `HOST:PORT`, `[V6]` or `[V6]:PORT`.
pub fn endpoint(text: &str) -> Result<(String, Option<u16>), Problem> {
    let text = text.trim();
    if text.starts_with('[') && text.ends_with(']') {
        return Ok((host(text)?, None));
    }
    match text.rsplit_once(':') {
        Some((name, number)) => Ok((host(name)?, Some(port(number)?))),
        None => Ok((host(text)?, None)),
    }
}

/// The smallest and the largest number of nodes, `N` or `MIN:MAX`.
pub fn nodes(text: &str) -> Result<(u32, u32), Problem> {
    let bad = || Problem::new(format!("`{text}` is no number of nodes"), "give 1, or 1:1");
    let number = |part: &str| part.trim().parse::<u32>().map_err(|_| bad());
    let (least, most) = match text.split_once(':') {
        Some((least, most)) => (number(least)?, number(most)?),
        None => (number(text)?, number(text)?),
    };
    if least == 0 || least > most { Err(bad()) } else { Ok((least, most)) }
}

/// The number of a node.
pub fn node_rank(text: &str) -> Result<i64, Problem> {
    text.trim().parse().map_err(|_| {
        Problem::new(format!("`{text}` is no number of a node"), "leave --node-rank out")
    })
}

fn word<T: Copy>(text: &str, known: &[(&str, T)]) -> Result<T, Problem> {
    let word = text.trim();
    known.iter().find(|(name, _)| *name == word).map(|(_, value)| *value).ok_or_else(|| {
        let names = known.iter().map(|(name, _)| *name);
        let hint = match nearest(word, names.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are {}", names.collect::<Vec<_>>().join(", ")),
        };
        Problem::new(format!("`{text}` is not known"), hint)
    })
}

/// The word most like `word`, where one is like enough.
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // The likeness of long texts costs their product.
    let likeness =
        |name: &str| if word.len() > 100 { 0.0 } else { strsim::jaro_winkler(word, name) };
    known
        .map(|name| (likeness(name), name))
        .filter(|(likeness, _)| *likeness >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}
