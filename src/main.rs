//! The `nvlaunch` program.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    // A panic is an error of nvlaunch: one line, its own exit code. The ranks die with this
    // process (their parent-death signal), and the keeper ends what they leave.
    std::panic::set_hook(Box::new(|panic| {
        let error = nvlaunch::error::Internal(panic.to_string().replace('\n', " "));
        nvlaunch::command::eprint(&nvlaunch::error::render(&error));
    }));
    let run = || nvlaunch::command::main(std::env::args_os().collect());
    let code = std::panic::catch_unwind(run).unwrap_or(nvlaunch::exit_code::INTERNAL);
    ExitCode::from(code)
}
