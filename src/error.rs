//! The error that reaches `main`, and how it is said.
//!
//! Each module has its own error type that states its own layer only. This module joins them,
//! adds nothing to the text, and knows each one's hint and exit code.

use crate::diagnose::secrets::scrub;
use crate::exit_code;

/// What a module's error says besides its text.
pub trait Explain: std::error::Error {
    /// The next step for the user, printed after the message as `hint: …`.
    fn hint(&self) -> Option<String> {
        None
    }

    /// One of the constants of [`exit_code`].
    fn exit_code(&self) -> u8;
}

/// Any error that ends the program.
pub type BoxError = Box<dyn Explain + Send + Sync>;

impl<E: Explain + Send + Sync + 'static> From<E> for BoxError {
    fn from(error: E) -> Self {
        Box::new(error)
    }
}

/// Renders an error with its chain of causes, each once, and its hint.
///
/// A source whose text already ends the message before it is left out.
pub fn render(error: &dyn Explain) -> String {
    let mut text = format!("nvlaunch: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    if let Some(hint) = error.hint() {
        text.push_str("\nhint: ");
        text.push_str(&hint);
    }
    text.push('\n');
    // What was typed in the wrong place is shown in the message.
    scrub(&text)
}

/// A failure of nvlaunch itself that no user input explains.
#[derive(Debug, thiserror::Error)]
#[error("internal error: {0}")]
pub struct Internal(pub String);

impl Explain for Internal {
    fn hint(&self) -> Option<String> {
        Some("please report this together with the command line".to_owned())
    }

    fn exit_code(&self) -> u8 {
        exit_code::INTERNAL
    }
}
