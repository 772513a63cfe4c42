//! How the operator talks to the Kubernetes API server: calls with one deadline, one meaning for each refusal and one back-off,
//! and watches over shared connections. Owns what an answer means; what is done about it is the caller's.
//!
//! - [`call`]: how long a call may take, and what a refusal means.
//! - [`config`]: where the API server is.
//! - [`http2`]: connections that many watches share.
//! - [`watches`]: every watch: list, resume, renew, back off.
//! - [`store`]: whether the API server's store was set back.

pub mod call;
pub mod config;
pub mod http2;
pub mod store;
pub mod watches;
