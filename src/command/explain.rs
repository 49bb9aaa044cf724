//! `nvlaunch explain CODE`: what a finding means; `--list`: all there are.

use super::output;
use crate::cli::Explained;
use crate::error::{BoxError, Explain};
use crate::exit_code;
use crate::preflight::explain::{self, list, resolve, suggest};

/// Why there is nothing to explain.
#[derive(Debug, thiserror::Error)]
#[error("there is no finding `{asked}`")]
struct Unknown {
    asked: String,
}

impl Explain for Unknown {
    fn hint(&self) -> Option<String> {
        // One number is as like a wrong one as any other.
        let is_number = self.asked.bytes().any(|byte| byte.is_ascii_digit());
        Some(match suggest(&self.asked).filter(|_| !is_number) {
            Some(near) => format!("did you mean `{}` ({})?", near.name, near.code),
            None => "`nvlaunch explain --list` lists the codes".to_owned(),
        })
    }

    fn exit_code(&self) -> u8 {
        exit_code::USAGE
    }
}

/// Prints what is known; the exit code.
pub(super) fn explain(what: &Explained) -> Result<u8, BoxError> {
    let text = match what {
        Explained::List => list(),
        Explained::Code(asked) => match resolve(asked) {
            Some(entry) => explain::explain(entry),
            None => return Err(Unknown { asked: asked.clone() }.into()),
        },
    };
    Ok(output::print(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_said_with_what_is() {
        let said = |asked: &str| {
            let asked = Explained::Code(asked.to_owned());
            let error = explain(&asked).expect_err("it is unknown");
            assert_eq!(error.exit_code(), exit_code::USAGE);
            crate::error::render(&*error)
        };
        for asked in ["NVL999", "NVL0O1"] {
            let list = "hint: `nvlaunch explain --list` lists the codes";
            let expected = format!("nvlaunch: there is no finding `{asked}`\n{list}\n");
            assert_eq!(said(asked), expected);
        }
        assert_eq!(
            said("gpu_prob_hang"),
            "nvlaunch: there is no finding `gpu_prob_hang`\nhint: did you mean `GPU_PROBE_HANG` \
             (NVL042)?\n"
        );
    }
}
