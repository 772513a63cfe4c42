//! Remembers rejected credentials, so that accounts aren't locked and registries don't ban addresses.
//!
//! - [`table`]: when credentials may be sent to a host, and the result otherwise. Pure.
//! - [`gate`]: the interface for validations, with a [`CredentialSession`] for each.
//! - [`records`]: the rejections as bytes. Pure.
//!
//! Stores only keyed digests of credentials.

pub mod gate;
pub mod records;
pub mod table;

pub use gate::{CredentialSession, Rejections};
