//! The programs that the benchmark starts besides Python: the floor and the native ranks.
//!
//! - `floor STAMP N PROGRAM ARGS…` starts N processes with a rank's environment and waits for
//!   them: what any launcher has to do at least.
//! - `floor-files FOLDER N PROGRAM ARGS…` does so with each one's output in a file of its own.
//! - `once` is a rank that writes its stamp and ends; `stay` waits in the first attempt until it
//!   is killed and does as `once` in a later one; `write BYTES` prints lines of 100 bytes;
//!   `write-stay BYTES` prints them and stays.
//! - `store-…`: load for a rank store, see `store.rs`.
//! - `drain` reads its standard input to the end, as a fast reader of the console.
//!
//! A stamp is a file `$BENCH_STAMPS/<rank>.<attempt>` with the time of `CLOCK_MONOTONIC` in
//! nanoseconds and the process id. The time is taken first of all.

mod store;

use std::env::{self, args};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::process::{Child, Command, ExitCode, Stdio};

use rustix::time::{ClockId, clock_gettime};

const LINE: usize = 100;
/// A multiple of [`LINE`] near the size that a buffered writer uses.
const BLOCK: usize = 655 * LINE;

fn main() -> ExitCode {
    let now = monotonic_ns();
    match run(now) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench-programs: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(now: i64) -> io::Result<bool> {
    let mut words = args().skip(1);
    let mut next = || words.next().ok_or_else(|| io::Error::other("a word is missing"));
    match next()?.as_str() {
        "once" => stamp(now)?,
        "stay" => {
            stamp(now)?;
            if attempt() == "0" {
                stay();
            }
        }
        "write" => write(number(&next()?)?)?,
        "write-stay" => {
            write(number(&next()?)?)?;
            stamp(now)?;
            stay();
        }
        "drain" => drain()?,
        "store-load" => {
            let (server, op) = (server(&next()?)?, next()?);
            println!("{}", store::load(server, &op, number(&next()?)?, number(&next()?)?)?);
        }
        "store-gather" => println!("{}", store::gather(server(&next()?)?, number(&next()?)?)?),
        "store-fill" => println!("{}", store::fill(server(&next()?)?, number(&next()?)?)?),
        "floor" => {
            let (file, count) = (next()?, number(&next()?)?);
            let begun = monotonic_ns();
            let children = start(count, &next()?, &words.collect::<Vec<_>>(), None)?;
            fs::write(file, begun.to_string())?;
            return wait(children);
        }
        "floor-files" => {
            let (folder, count) = (next()?, number(&next()?)?);
            return wait(start(count, &next()?, &words.collect::<Vec<_>>(), Some(&folder))?);
        }
        other => return Err(io::Error::other(format!("unknown word {other}"))),
    }
    Ok(true)
}

fn server(word: &str) -> io::Result<SocketAddr> {
    word.parse().map_err(io::Error::other)
}

fn number(word: &str) -> io::Result<usize> {
    word.parse().map_err(io::Error::other)
}

fn monotonic_ns() -> i64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

fn attempt() -> String {
    env::var("TORCHELASTIC_RESTART_COUNT").unwrap_or_else(|_| "0".to_owned())
}

fn stamp(now: i64) -> io::Result<()> {
    let Ok(folder) = env::var("BENCH_STAMPS") else { return Ok(()) };
    let rank = env::var("RANK").map_err(io::Error::other)?;
    let name = format!("{folder}/{rank}.{}", attempt());
    // Renamed, so that a reader never sees half of it.
    let unfinished = format!("{name}.new");
    fs::write(&unfinished, format!("{now} {}", std::process::id()))?;
    fs::rename(unfinished, name)
}

fn stay() -> ! {
    loop {
        std::thread::park();
    }
}

fn write(bytes: usize) -> io::Result<()> {
    let mut block = vec![b'x'; BLOCK];
    block.iter_mut().skip(LINE - 1).step_by(LINE).for_each(|byte| *byte = b'\n');
    let mut left = bytes / LINE * LINE;
    // Not through the standard library's line buffer: it would cost the rank, not the launcher.
    let mut out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    while left > 0 {
        let n = left.min(BLOCK);
        out.write_all(&block[..n])?;
        left -= n;
    }
    Ok(())
}

fn drain() -> io::Result<()> {
    let mut buffer = vec![0; 1024 * 1024];
    let mut total = 0;
    loop {
        match io::stdin().lock().read(&mut buffer)? {
            0 => break,
            n => total += n,
        }
    }
    println!("{total}");
    Ok(())
}

/// Starts the processes through `posix_spawn`, which is what the standard library takes here.
fn start(
    count: usize,
    program: &str,
    args: &[String],
    files: Option<&str>,
) -> io::Result<Vec<Child>> {
    let mut children = Vec::with_capacity(count);
    let world = count.to_string();
    for rank in 0..count {
        let number = rank.to_string();
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null());
        for name in ["WORLD_SIZE", "LOCAL_WORLD_SIZE", "ROLE_WORLD_SIZE"] {
            command.env(name, &world);
        }
        for name in ["RANK", "LOCAL_RANK", "ROLE_RANK"] {
            command.env(name, &number);
        }
        for (name, value) in FIXED {
            command.env(name, value);
        }
        if let Some(folder) = files {
            command.stdout(File::create(format!("{folder}/{rank}.log"))?);
        }
        children.push(command.spawn()?);
    }
    Ok(children)
}

/// The rest of torchrun's contract.
const FIXED: [(&str, &str); 14] = [
    ("GROUP_RANK", "0"),
    ("GROUP_WORLD_SIZE", "1"),
    ("ROLE_NAME", "default"),
    ("MASTER_ADDR", "127.0.0.1"),
    ("MASTER_PORT", "29500"),
    ("OMP_NUM_THREADS", "1"),
    ("TORCHELASTIC_RESTART_COUNT", "0"),
    ("TORCHELASTIC_MAX_RESTARTS", "0"),
    ("TORCHELASTIC_RUN_ID", "00000000-0000-0000-0000-000000000000"),
    ("TORCHELASTIC_USE_AGENT_STORE", "False"),
    ("TORCHELASTIC_SIGNALS_TO_HANDLE", "SIGTERM,SIGINT,SIGHUP,SIGQUIT"),
    ("TORCHELASTIC_ERROR_FILE", "/tmp/0000000000000000000000000000000000000000/0/error.json"),
    ("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1"),
    ("NVLAUNCH_RUN_ID", "00000000-0000-0000-0000-000000000000"),
];

fn wait(children: Vec<Child>) -> io::Result<bool> {
    let mut good = true;
    for mut child in children {
        good &= child.wait()?.success();
    }
    Ok(good)
}
