//! Somebody who can be asked for what is missing.

use std::io;

use secrecy::SecretString;
use thiserror::Error;

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum PromptError {
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// The terminal can't be used.
    #[error("the terminal can't be read: {0}")]
    Io(#[from] io::Error),
}

/// Somebody who can be asked.
pub trait Prompt {
    /// Asks for something that may be seen.
    fn ask(&mut self, label: &str) -> Result<String, PromptError>;

    /// Asks for something that may not be seen.
    fn ask_secret(&mut self, label: &str) -> Result<SecretString, PromptError>;
}
