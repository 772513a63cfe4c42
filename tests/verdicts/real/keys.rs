//! Keys that sign registry tokens, RSA and EC, and the forms in which registries learn of them: a certificate in a bundle, or
//! a JSON Web Key Set.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rcgen::{
    Certificate, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, PublicKeyData as _, RsaKeySize,
    SigningKey as _, date_time_ymd,
};
use serde_json::{Value, json};

use crate::scripts::{Caller, TokenCall, issues, refused};
use crate::secrets::SEAL;
use crate::support::certificates::server_params;
use crate::support::{Answer, ReceivedRequest};

/// Which kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Rsa,
    Ec,
}

/// How a token says which key signed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// By the certificate (`x5c`).
    Certificate,
    /// By the key's name (`kid`).
    KeyId,
}

/// A key that signs tokens.
#[derive(Clone)]
pub struct Signer(Arc<Parts>);

struct Parts {
    kind: Kind,
    key: KeyPair,
    certificate: Certificate,
}

/// The name of the key.
const KEY_ID: &str = "tests";
/// Who issues the tokens.
pub const ISSUER: &str = "token service of the tests";
/// What they are for.
pub const SERVICE: &str = "registry.example.com";

impl Signer {
    /// A new key, with a certificate of its own.
    pub fn new(kind: Kind) -> Self {
        let key = match kind {
            Kind::Rsa => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
            Kind::Ec => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
        };
        let key = key.unwrap();
        let mut params = server_params(&["tokens"]);
        // The registry judges by the real clock.
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2040, 1, 1);
        let certificate = params.self_signed(&key).unwrap();
        Self(Arc::new(Parts { kind, key, certificate }))
    }

    /// For `rootcertbundle`.
    pub fn bundle(&self) -> String {
        self.0.certificate.pem()
    }

    /// For `jwks`.
    pub fn key_set(&self) -> Value {
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let raw = self.0.key.der_bytes();
        let key = match self.0.kind {
            Kind::Ec => {
                json!({"kty": "EC", "crv": "P-256", "x": encode(&raw[1..33]), "y": encode(&raw[33..65])})
            }
            Kind::Rsa => {
                let numbers = integers(raw);
                json!({"kty": "RSA", "n": encode(&numbers[0]), "e": encode(&numbers[1])})
            }
        };
        let mut key = key;
        key["kid"] = KEY_ID.into();
        key["use"] = "sig".into();
        key["alg"] = self.algorithm().into();
        json!({"keys": [key]})
    }

    fn algorithm(&self) -> &'static str {
        if self.0.kind == Kind::Rsa { "RS256" } else { "ES256" }
    }

    /// A token with these claims.
    pub fn sign(&self, proof: Proof, claims: &Value) -> String {
        let mut header = json!({"typ": "JWT", "alg": self.algorithm()});
        match proof {
            Proof::Certificate => header["x5c"] = json!([BASE64_STANDARD.encode(self.0.certificate.der())]),
            Proof::KeyId => header["kid"] = KEY_ID.into(),
        }
        let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&header), encode(claims));
        let signature = self.0.key.sign(signed.as_bytes()).unwrap();
        let signature = match self.0.kind {
            Kind::Rsa => signature,
            // JSON Web Signatures hold the two numbers as they are (RFC 7518, section 3.4).
            Kind::Ec => integers(&signature).iter().flat_map(|number| padded(number)).collect(),
        };
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

/// The integers of a DER sequence of integers, without leading zeros.
fn integers(der: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut numbers) = (contents(der).0, Vec::new());
    while !rest.is_empty() {
        let (number, after) = contents(rest);
        let first = number.iter().position(|byte| *byte != 0).unwrap_or(0);
        numbers.push(number[first..].to_vec());
        rest = after;
    }
    numbers
}

/// What a DER value holds, and what comes after it.
fn contents(der: &[u8]) -> (&[u8], &[u8]) {
    let (length, start) = match der[1] {
        short @ 0..=0x7f => (usize::from(short), 2),
        long => {
            let count = usize::from(long & 0x7f);
            (der[2..2 + count].iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), 2 + count)
        }
    };
    (&der[start..start + length], &der[start + length..])
}

fn padded(number: &[u8]) -> Vec<u8> {
    [vec![0; 32 - number.len()], number.to_vec()].concat()
}

#[expect(clippy::disallowed_methods, reason = "registries judge tokens by the real clock")]
fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// What a token of the service says.
pub fn claims(subject: Option<&str>, repository: Option<(&str, &[&str])>) -> Value {
    let now = seconds_now();
    let access =
        repository.map(|(name, actions)| json!({"type": "repository", "name": name, "actions": actions}));
    let mut claims = json!({
        "iss": ISSUER, "aud": SERVICE, "exp": now + 3600, "nbf": now - 60, "iat": now, "jti": SEAL,
        "access": access.into_iter().collect::<Vec<_>>(),
    });
    if let Some(subject) = subject {
        claims["sub"] = subject.into();
    }
    claims
}

/// A token service that signs: `answer` says what a token claims, or nothing where it refuses.
pub fn signing(
    signer: &Signer,
    proof: Proof,
    answer: impl Fn(&TokenCall) -> Option<Value> + Send + Sync + 'static,
) -> impl Fn(&ReceivedRequest) -> Answer + Clone + Send + Sync + 'static {
    let (signer, answer) = (signer.clone(), Arc::new(answer));
    move |asked| {
        let (signer, answer) = (signer.clone(), answer.clone());
        issues(move |call| match answer(call) {
            Some(claims) => {
                let token = signer.sign(proof, &claims);
                Answer::status(200)
                    .body(json!({"token": token, "access_token": token, "expires_in": 3600}).to_string())
            }
            None => refused(),
        })(asked)
    }
}

/// Alice may pull what she asks for, save what is others'; nobody else gets a token.
pub fn strict(call: &TokenCall) -> Option<Value> {
    let actions: &[&str] = if call.repository() == Some("team/others") { &[] } else { &["pull"] };
    let repository = call.repository().map(|name| (name, actions));
    (call.caller == Caller::Alice).then(|| claims(Some(crate::secrets::USER), repository))
}
