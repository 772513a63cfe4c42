//! Memory of rejected credentials, so that accounts aren't locked and registries don't ban addresses.
//!
//! Stores no credentials, only digests with a key.
//!
//! - [`gate`]: asks the table before a validation sends credentials, and tells it the answer.
//! - [`records`]: the table as bytes, for the Secret that survives restarts. Pure.
//! - [`table`]: when credentials can be sent to a host again. Pure.

pub mod gate;
pub mod records;
pub mod table;

pub use gate::{CredentialSession, FinishingValidations, Rejections};
