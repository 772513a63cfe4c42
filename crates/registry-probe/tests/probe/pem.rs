//! PEM text of every kind: no panics, bounded time, no secrets in messages.

use std::time::{Duration, Instant};

use crate::support::Authority;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use registry_probe::{CaBundle, CaError, ClientIdentity};

fn armoured(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in any::<Vec<u8>>()) {
        let _ = (CaBundle::parse(&bytes), ClientIdentity::parse(&bytes, &bytes));
        for label in ["CERTIFICATE", "PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"] {
            let text = armoured(label, &bytes);
            let _ = (CaBundle::parse(text.as_bytes()), ClientIdentity::parse(text.as_bytes(), text.as_bytes()));
        }
    }

    #[test]
    fn no_flipped_bit_in_a_certificate_panics(at in 0..400_usize, bit in 0..8_u8) {
        let leaf = Authority::new("company").server(&["a"]);
        let mut der = leaf.chain[0].to_vec();
        let at = at % der.len();
        der[at] ^= 1 << bit;
        let _ = CaBundle::parse(armoured("CERTIFICATE", &der).as_bytes());
        let _ = ClientIdentity::parse(armoured("CERTIFICATE", &der).as_bytes(), leaf.key_pem.as_bytes());
    }

    #[test]
    fn recognizes_every_kind_of_private_key(kind in "[A-Z]{0,9} ?", before in "[ -~]{0,20}\n?") {
        let text = format!("{before}\n-----BEGIN {kind}PRIVATE KEY-----\nAAAA\n-----END {kind}PRIVATE KEY-----");
        prop_assert_eq!(CaBundle::parse(text.as_bytes()).unwrap_err(), CaError::PrivateKey);
    }
}

#[test]
fn parses_a_mebibyte_in_bounded_time() {
    let started = Instant::now();
    let certificate = Authority::new("company").pem();
    for unit in ["-", "-----BEGIN CERTIFICATE-----\n", "A", "\n", &certificate] {
        let text = unit.repeat((1 << 20) / unit.len());
        let _ = (CaBundle::parse(text.as_bytes()), ClientIdentity::parse(text.as_bytes(), text.as_bytes()));
    }
    // Seconds, where nothing else runs. What grows with the square takes hours.
    assert!(started.elapsed() < Duration::from_mins(10), "{:?}", started.elapsed());
}
