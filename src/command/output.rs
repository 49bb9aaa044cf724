//! The only place that writes to the standard streams outside the ranks' console.

use std::io::{self, Write};
use std::sync::mpsc;
use std::thread::Builder;
use std::time::Duration;

use tracing::Level;

use crate::env_vars;
use crate::exit_code;
use crate::settings::env::Env;
use crate::thread;

/// How long a message may take before nvlaunch leaves without it (S5, S8).
const PATIENCE: Duration = Duration::from_secs(5);

/// Writes to stdout; the exit code. A reader that has left is no error.
pub fn print(text: &str) -> u8 {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => exit_code::CANNOT_CREATE,
        _ => exit_code::OK,
    }
}

/// Writes to stderr, in one piece; waits no longer than `PATIENCE` for a reader that is stuck.
pub fn eprint(text: &str) {
    let text = text.to_owned();
    let (done, is_done) = mpsc::channel();
    let writer = thread::spawn(Builder::new(), move || {
        // Nobody is left to be told.
        let _ = io::stderr().write_all(text.as_bytes());
        let _ = done.send(());
    });
    if writer.is_ok() {
        let _ = is_done.recv_timeout(PATIENCE);
    }
}

/// Starts the log for developers where `NVLAUNCH_LOG` names a level.
pub fn start_developers_log(env: &Env) {
    let level = env.get(env_vars::LOG).and_then(|level| level.to_str()?.parse::<Level>().ok());
    if let Some(level) = level {
        tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr).init();
    }
}
