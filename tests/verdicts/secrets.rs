//! The secrets of a row, in every encoding, and where they arrived.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

use crate::listener::Arrival;

/// Something that must not arrive where it does not belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secret {
    /// The user's own: password, registry token, identity token.
    Credential,
    /// A token that was issued in exchange.
    IssuedToken,
    /// The key of the client certificate, which never leaves the process.
    ClientKey,
}

/// The user's name in all rows.
pub const USER: &str = "alice";
/// The right password. It has what form and URL encodings change.
pub const PASSWORD: &str = "corr3ct/horse+battery staple";
/// A wrong one; no less a secret, for it may be right elsewhere.
pub const WRONG_PASSWORD: &str = "wr0ng/horse+battery staple";
/// The right identity token.
pub const IDENTITY: &str = "identity-token-of-alice.0a1b2c/+";
/// A wrong or withdrawn one.
pub const WRONG_IDENTITY: &str = "identity-token-withdrawn.9z8y7x/+";
/// What every issued token of a scripted token service holds, and no other text.
pub const SEAL: &str = "issued-for-this-row-alone";
/// What every registry token that a user gives holds.
pub const OWN_SEAL: &str = "given-by-the-user-herself";

/// All secrets of a row: those that every row may hold, and those that its servers made.
#[derive(Debug, Clone)]
pub struct Ledger(Vec<(Secret, Vec<u8>)>);

impl Ledger {
    /// The secrets that are the same in all rows, with the key of the client certificate.
    pub fn new(client_key_pem: &str) -> Self {
        let mut ledger = Self(Vec::new());
        for secret in [PASSWORD, WRONG_PASSWORD, IDENTITY, WRONG_IDENTITY, OWN_SEAL] {
            ledger.add(Secret::Credential, secret);
        }
        ledger.add(Secret::IssuedToken, SEAL);
        let line = client_key_pem.lines().nth(1).unwrap_or_default();
        ledger.0.push((Secret::ClientKey, line.as_bytes().to_vec()));
        ledger
    }

    /// One more secret.
    pub fn add(&mut self, kind: Secret, text: &str) {
        self.0.extend(forms(text).into_iter().map(|form| (kind, form.into_bytes())));
    }

    /// The secrets that the bytes contain.
    pub fn found_in(&self, bytes: &[u8]) -> Vec<Secret> {
        let mut found: Vec<Secret> = Vec::new();
        for (kind, needle) in &self.0 {
            if !found.contains(kind) && bytes.windows(needle.len()).any(|window| window == needle) {
                found.push(*kind);
            }
        }
        found
    }

    /// Which secrets arrived where; each place and kind once.
    pub fn trace(&self, arrivals: &[Arrival]) -> Vec<(Secret, String)> {
        let mut trace = Vec::new();
        for arrival in arrivals {
            for secret in self.found_in(&arrival.bytes) {
                if !trace.contains(&(secret, arrival.place.clone())) {
                    trace.push((secret, arrival.place.clone()));
                }
            }
        }
        trace
    }
}

/// As it is, in a form or URL, and in base64: as `user:secret`, and wherever else it may stand within three bytes.
fn forms(secret: &str) -> Vec<String> {
    let percent = |space: &str| {
        secret.bytes().fold(String::new(), |text, byte| match byte {
            b' ' => text + space,
            byte if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) => {
                text + &char::from(byte).to_string()
            }
            byte => text + &format!("%{byte:02X}"),
        })
    };
    let mut forms = vec![secret.to_owned(), percent("+"), percent("%20")];
    for shift in 0..3 {
        let padded = format!("{}{secret}", ":".repeat(shift));
        forms.push(inner(&BASE64_STANDARD.encode(&padded), padded.len(), shift));
        forms.push(inner(&BASE64_URL_SAFE_NO_PAD.encode(&padded), padded.len(), shift));
    }
    forms.sort();
    forms.dedup();
    forms
}

/// The characters of `encoded` that do not depend on what stands before and after.
fn inner(encoded: &str, length: usize, shift: usize) -> String {
    let first = if shift == 0 { 0 } else { 4 };
    let last = length / 3 * 4;
    encoded[first..last].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_secret_in_every_encoding() {
        let ledger = Ledger::new("-----BEGIN\nKEYKEYKEY\n-----END");
        let encoded = |text: &str| BASE64_STANDARD.encode(text);
        for bytes in [
            format!("x{PASSWORD}y"),
            format!("Authorization: Basic {}", encoded(&format!("{USER}:{PASSWORD}"))),
            format!("Authorization: Basic {}", encoded(&format!("{USER}x:{PASSWORD}"))),
            format!("Authorization: Basic {}", encoded(&format!("{USER}xy:{PASSWORD}"))),
            "password=corr3ct%2Fhorse%2Bbattery+staple&x".to_owned(),
            "password=corr3ct%2Fhorse%2Bbattery%20staple&x".to_owned(),
            format!("Basic {}", encoded(&format!("00000000:{IDENTITY}"))),
        ] {
            assert_eq!(ledger.found_in(bytes.as_bytes()), [Secret::Credential], "{bytes}");
        }
        assert_eq!(ledger.found_in(format!("Bearer a.b.{SEAL}").as_bytes()), [Secret::IssuedToken]);
        assert_eq!(ledger.found_in(b"corr3ct/horse"), []);
    }
}
