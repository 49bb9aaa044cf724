//! A test double that plays a rank, or something a rank started, from a script in its arguments.
//!
//! `fake_rank MARKER NAME STEP…`: the marker makes every process of one test findable in `/proc`,
//! the name says who this is. Steps are done in order; `[ … ]` holds the steps of a block:
//!
//! - `pid` prints `pid NAME 4242`; `say TEXT` prints; `err TEXT` prints on stderr
//! - `on SIG CODE MS` prints `got NAME SIG NANOS` on each such signal and exits with CODE after MS
//!   milliseconds; CODE `-` only prints
//! - `rank N [ … ]`, `attempt N [ … ]` are for that local rank, that attempt only
//! - `spawn NAME [ … ]` starts a child; `daemon NAME [ … ]` one that left session and parent;
//!   `bare NAME [ … ]` the same without any environment
//! - `setsid`, `group` change the own session, the own group
//! - `wait` for ever; `exit CODE`; `raise SIG`; `abort`; `eat MIB`; `read` a line of stdin and
//!   print it; `limit` prints the soft limit on open files; `print N` writes N lines
//! - `touch FILE`; `await FILE` until it exists; `until FILE MICROS` spins until the monotonic
//!   moment that FILE holds in nanoseconds, plus MICROS; `stamp FILE` writes the moment

use std::fs;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::{self, Pid};
use rustix::time::{ClockId, clock_gettime};

type Steps = std::vec::IntoIter<String>;

fn main() {
    let mut words = std::env::args().skip(1).collect::<Vec<_>>().into_iter();
    let marker = next(&mut words);
    let name = next(&mut words);
    play(&Double { marker, name }, words);
}

struct Double {
    marker: String,
    name: String,
}

fn play(me: &Double, mut steps: Steps) {
    while let Some(step) = steps.next() {
        match step.as_str() {
            "pid" => say(&format!("pid {} {}", me.name, std::process::id())),
            "say" => say(&next(&mut steps)),
            "err" => {
                let _ = writeln!(io::stderr(), "{}", next(&mut steps));
            }
            "print" => {
                let line = "x".repeat(99);
                for _ in 0..number(&mut steps) {
                    say(&line);
                }
            }
            "on" => on(me, &mut steps),
            "rank" => only_if("LOCAL_RANK", me, &mut steps),
            "attempt" => only_if("TORCHELASTIC_RESTART_COUNT", me, &mut steps),
            "spawn" => drop(child(me, &mut steps).spawn().expect("a child")),
            "daemon" | "bare" => {
                let mut middle = Command::new(exe());
                if step == "bare" {
                    middle.env_clear();
                }
                let name = next(&mut steps);
                middle.args([&me.marker, "middle", "setsid", "spawn", &name, "["]);
                middle.args(block(&mut steps)).args(["]", "exit", "0"]);
                middle.status().expect("a process between");
            }
            "setsid" => drop(unistd::setsid().expect("a session")),
            "group" => unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0)).expect("a group"),
            "wait" => loop {
                std::thread::park();
            },
            "exit" => exit(number(&mut steps)),
            "raise" => nix::sys::signal::raise(signal(&next(&mut steps))).expect("a signal"),
            "abort" => std::process::abort(),
            "eat" => eat(number(&mut steps)),
            "read" => {
                let mut line = String::new();
                io::stdin().read_line(&mut line).expect("stdin");
                say(&format!("read {:?}", line.trim_end()));
            }
            "limit" => {
                let limit =
                    nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
                say(&format!("limit {}", limit.expect("a limit").0));
            }
            "touch" => fs::write(next(&mut steps), "").expect("a file"),
            "await" => {
                let file = next(&mut steps);
                while !fs::exists(&file).unwrap_or(false) {
                    std::thread::park_timeout(Duration::from_millis(1));
                }
            }
            "until" => until(&mut steps),
            "stamp" => {
                let mut file = fs::File::create(next(&mut steps)).expect("a file");
                let _ = file.write_all(now().to_string().as_bytes());
            }
            other => panic!("no step `{other}`"),
        }
    }
}

fn next(steps: &mut Steps) -> String {
    steps.next().expect("a word more")
}

fn number(steps: &mut Steps) -> i32 {
    next(steps).parse().expect("a number")
}

/// The words up to the bracket that closes the block.
fn block(steps: &mut Steps) -> Vec<String> {
    assert_eq!(next(steps), "[");
    let mut words = Vec::new();
    let mut depth = 1;
    loop {
        let word = next(steps);
        depth += match word.as_str() {
            "[" => 1,
            "]" => -1,
            _ => 0,
        };
        if depth == 0 {
            return words;
        }
        words.push(word);
    }
}

fn only_if(variable: &str, me: &Double, steps: &mut Steps) {
    let wanted = next(steps);
    let words = block(steps);
    if std::env::var(variable).is_ok_and(|value| value == wanted) {
        play(me, words.into_iter());
    }
}

fn exe() -> std::path::PathBuf {
    std::env::current_exe().expect("the own program")
}

fn child(me: &Double, steps: &mut Steps) -> Command {
    let mut command = Command::new(exe());
    let name = next(steps);
    command.arg0("fake_rank").args([&me.marker, &name]).args(block(steps)).stdin(Stdio::null());
    command
}

fn signal(name: &str) -> Signal {
    format!("SIG{name}").parse().expect("a signal")
}

fn on(me: &Double, steps: &mut Steps) {
    let name = next(steps);
    let code = next(steps);
    let delay = Duration::from_millis(u64::from(number(steps).unsigned_abs()));
    let mut signals =
        signal_hook::iterator::Signals::new([signal(&name) as i32]).expect("a handler");
    let me = me.name.clone();
    std::thread::spawn(move || {
        for _ in signals.forever() {
            say(&format!("got {me} {name} {}", now()));
            if let Ok(code) = code.parse() {
                std::thread::park_timeout(delay);
                exit(code);
            }
        }
    });
}

fn say(text: &str) {
    // A pipe that nobody reads is the launcher's affair.
    let _ = io::stdout().lock().write_all(format!("{text}\n").as_bytes());
}

#[expect(clippy::exit, reason = "a script ends where it says")]
fn exit(code: i32) -> ! {
    std::process::exit(code)
}

fn eat(mib: i32) {
    let mut eaten = Vec::new();
    for _ in 0..mib {
        eaten.push(vec![1u8; 1 << 20]);
    }
    say(&format!("ate {} MiB", eaten.len()));
}

/// Monotonic nanoseconds.
fn now() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

fn until(steps: &mut Steps) {
    let file = next(steps);
    let micros = i64::from(number(steps));
    let start: i64 = loop {
        if let Some(start) = fs::read_to_string(&file).ok().and_then(|text| text.parse().ok()) {
            break start;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    };
    // Asleep until shortly before: who spins for long is put aside by the scheduler at the end.
    let nap = (start + micros * 1000 - now() - 2_000_000).max(0);
    std::thread::sleep(Duration::from_nanos(nap.unsigned_abs()));
    while now() < start + micros * 1000 {
        std::hint::spin_loop();
    }
}
