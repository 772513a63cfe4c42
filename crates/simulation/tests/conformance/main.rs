//! Sends the same requests to both API servers.
