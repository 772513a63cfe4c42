//! The key that distribution 2.8's token service signs with, as the service reads it and as registries know it.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PublicKeyData as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{ServerError, secrets};

/// A P-256 key.
pub(super) struct SigningKey {
    public: Value,
    private: Value,
}

impl SigningKey {
    pub(super) fn new() -> Result<Self, ServerError> {
        let key = KeyPair::generate().map_err(secrets)?;
        let (x, y) = coordinates(key.der_bytes()).ok_or_else(|| secrets("not a point of P-256"))?;
        let der = key.serialize_der();
        let scalar = scalar(&der).ok_or_else(|| secrets("not a key of P-256"))?;
        let public = json!({
            "kty": "EC", "crv": "P-256", "kid": key_id(&key.subject_public_key_info()),
            "x": encoded(x), "y": encoded(y),
        });
        let mut private = public.clone();
        private["d"] = encoded(scalar).into();
        Ok(Self { public, private })
    }

    /// The key itself, as a JSON Web Key.
    pub(super) fn private(&self) -> String {
        self.private.to_string()
    }

    /// What registries verify tokens with, as a JSON Web Key Set.
    pub(super) fn key_set(&self) -> String {
        json!({"keys": [self.public]}).to_string()
    }
}

fn encoded(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Of an uncompressed point.
fn coordinates(point: &[u8]) -> Option<(&[u8], &[u8])> {
    let point = point.strip_prefix(&[4])?;
    (point.len() == 64).then(|| point.split_at(32))
}

/// The secret number in a PKCS #8 document: version 1, then 32 bytes.
fn scalar(pkcs8: &[u8]) -> Option<&[u8]> {
    const START: [u8; 5] = [2, 1, 1, 4, 32];
    let at = pkcs8.windows(START.len()).position(|window| window == START)? + START.len();
    pkcs8.get(at..at + 32)
}

/// libtrust's name of a key: the first 240 bits of the digest in base 32, in groups of four.
fn key_id(public_key_info: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let digest = Sha256::digest(public_key_info);
    let letters: Vec<char> = digest[..30]
        .chunks(5)
        .flat_map(|chunk| {
            let number = chunk.iter().fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
            (0..8).rev().map(move |at| char::from(ALPHABET[((number >> (5 * at)) & 31) as usize]))
        })
        .collect();
    letters.chunks(4).map(|group| group.iter().collect::<String>()).collect::<Vec<_>>().join(":")
}
