//! How the operator talks to the Kubernetes API server: calls with one deadline, one meaning for each refusal and one back-off,
//! and watches over shared connections. Owns what an answer means; what is done about it is the caller's.
//!
//! - [`account`]: whether it runs as the account that the policies know.
//! - [`call`]: how long a call may take, and what a refusal means.
//! - [`config`]: where the API server is.
//! - [`guard`]: whether the admission policies are in force.
//! - [`http2`]: connections that many watches share.
//! - [`watches`]: every watch: list, resume, renew, back off.
//! - [`store`]: whether the API server's store was set back.

pub mod account;
pub mod call;
pub mod config;
pub mod guard;
pub mod http2;
pub mod store;
pub mod watches;
