//! A CA certificate as people have it: PEM, DER, or base64 of either; from a file or pasted. Pure.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use registry_probe::CaBundle;

/// The largest file that is read.
const LARGEST: usize = 64 * 1024;
/// With this begins a certificate in DER: a sequence with a long length.
const SEQUENCE: u8 = 0x30;

/// The certificates as PEM text, or what is wrong.
pub fn to_pem(content: &[u8]) -> Result<String, String> {
    if content.len() > LARGEST {
        return Err("The CA file is larger than 64 KiB; remove certificates".to_owned());
    }
    let pem = as_pem(content);
    let bundle = CaBundle::parse(pem.as_deref().unwrap_or(content));
    bundle.map(|bundle| bundle.to_pem()).map_err(|error| format!("The CA {error}"))
}

/// What isn't PEM text already.
fn as_pem(content: &[u8]) -> Option<Vec<u8>> {
    if holds_pem(content) {
        return None;
    }
    let compact: Vec<u8> = content.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    match BASE64_STANDARD.decode(compact) {
        Ok(decoded) if holds_pem(&decoded) => Some(decoded),
        Ok(decoded) if decoded.first() == Some(&SEQUENCE) => Some(armored(&decoded)),
        _ if content.first() == Some(&SEQUENCE) => Some(armored(content)),
        _ => None,
    }
}

fn holds_pem(content: &[u8]) -> bool {
    content.windows(10).any(|window| window == b"-----BEGIN")
}

fn armored(der: &[u8]) -> Vec<u8> {
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in BASE64_STANDARD.encode(der).as_bytes().chunks(64) {
        pem.extend(line.iter().map(|byte| char::from(*byte)));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem.into_bytes()
}

#[cfg(test)]
mod tests {
    use registry_testbed::TestCa;

    use super::*;

    #[test]
    fn every_form_becomes_the_same_pem() {
        let ca = TestCa::new("private authority").unwrap();
        let pem = ca.certificate_pem();
        let body: String = pem.lines().filter(|line| !line.starts_with("--")).collect();
        let der = BASE64_STANDARD.decode(&body).unwrap();
        let expected = to_pem(pem.as_bytes()).unwrap();
        assert!(expected.starts_with("-----BEGIN CERTIFICATE-----\n"));
        let base64_of_pem = BASE64_STANDARD.encode(pem);
        for form in [der.as_slice(), body.as_bytes(), base64_of_pem.as_bytes()] {
            assert_eq!(to_pem(form).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_no_ca_is_said() {
        assert!(to_pem(b"hello").unwrap_err().contains("no PEM certificate"));
        assert!(to_pem(&vec![b'a'; 70_000]).unwrap_err().contains("64 KiB"));
        let key = b"-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----";
        assert!(to_pem(key).unwrap_err().contains("private key"));
    }
}
