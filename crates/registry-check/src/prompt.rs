//! Asks the user for missing values.

use std::io;

use secrecy::SecretString;
use thiserror::Error;

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum PromptError {
    /// The user pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// The terminal can't be used.
    #[error("failed to read the terminal: {0}")]
    Io(#[from] io::Error),
}

/// Asks the user for missing values.
pub trait Prompt {
    /// Asks for a value that is shown.
    fn ask(&mut self, label: &str) -> Result<String, PromptError>;

    /// Asks for a value that isn't shown.
    fn ask_secret(&mut self, label: &str) -> Result<SecretString, PromptError>;
}
