//! Certificates in PEM text (RFC 7468): every certificate that begins in the text is read, or the text is rejected.
//!
//! PEM parsers skip what they don't understand. A bundle that silently loses a certificate shows only later, as an
//! unknown issuer.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

const BEGIN: &[u8] = b"-----BEGIN ";
const DASHES: &[u8] = b"-----";

/// A certificate that begins in the text and can't be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BrokenPem {
    /// The line on which it begins, from 1.
    pub(super) line: usize,
}

/// All certificates in `text`, in order. Other text and other kinds of PEM are ignored.
pub(super) fn certificates_in(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, BrokenPem> {
    if let Some(at) = malformed_beginning(text) {
        let line = 1 + line_breaks(text.get(..at).unwrap_or_default());
        return Err(BrokenPem { line });
    }
    let beginnings = beginnings(text);
    let ends = beginnings.iter().skip(1).copied().chain([text.len()]);
    let mut certificates = Vec::new();
    let (mut line, mut counted) = (1, 0);
    for (&start, end) in beginnings.iter().zip(ends) {
        let section = text.get(start..end).unwrap_or_default();
        if !label(section).is_some_and(|label| label.ends_with(b"CERTIFICATE")) {
            continue;
        }
        line += line_breaks(text.get(counted..start).unwrap_or_default());
        counted = start;
        certificates.push(certificate(section).ok_or(BrokenPem { line })?);
    }
    Ok(certificates)
}

/// Where a section begins, wherever on its line: two files joined without a line break have one behind an end.
fn beginnings(text: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(offset) = text.get(from..).and_then(|rest| position(rest, BEGIN)) {
        found.push(from + offset);
        from += offset + BEGIN.len();
    }
    found
}

/// Where a certificate begins by the words of its first line and not by their form: dashes are missing, or of another kind, or
/// the words are in lower case. Readers take that for text between certificates.
fn malformed_beginning(text: &[u8]) -> Option<usize> {
    const WORD: &[u8] = b"BEGIN";
    let words = text.windows(WORD.len()).enumerate();
    let mut words = words.filter(|(_, window)| window.eq_ignore_ascii_case(WORD)).map(|(at, _)| at);
    words.find(|at| {
        let (before, from) = text.split_at(*at);
        begins_certificate(before, from.get(WORD.len()..).unwrap_or_default())
            && !is_well_formed(before, from)
    })
}

/// Whether the word between `before` and `rest` begins a certificate, whatever stands round it but words.
fn begins_certificate(before: &[u8], rest: &[u8]) -> bool {
    let is_blank = |byte: u8| matches!(byte, b' ' | b'\t');
    let in_prose = before.iter().rfind(|byte| !is_blank(**byte)).is_some_and(u8::is_ascii_alphanumeric);
    let of_label = |byte: &&u8| byte.is_ascii_alphanumeric() || is_blank(**byte);
    let length = rest.iter().take(LONGEST_LABEL).take_while(of_label).count();
    let label = rest.get(..length).unwrap_or_default();
    let mut words = label.split(|byte| is_blank(*byte)).filter(|word| !word.is_empty());
    !in_prose
        && label.first().is_some_and(|byte| is_blank(*byte))
        && words.next_back().is_some_and(|word| word.eq_ignore_ascii_case(b"CERTIFICATE"))
        && words.count() < 2
}

const LONGEST_LABEL: usize = 64;

fn is_well_formed(before: &[u8], from: &[u8]) -> bool {
    let dashes = from.iter().position(|byte| *byte == b'-').unwrap_or(from.len());
    let (words, after) = from.split_at(dashes);
    before.ends_with(DASHES)
        && after.starts_with(DASHES)
        && words.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b' ')
}

pub(super) fn position(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

fn label(section: &[u8]) -> Option<&[u8]> {
    let rest = section.get(BEGIN.len()..)?;
    let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(rest.len());
    let first_line = rest.get(..end)?;
    first_line.get(..position(first_line, DASHES)?)
}

/// The number of line breaks: `\n`, or `\r` where there is no `\n`.
fn line_breaks(text: &[u8]) -> usize {
    let lines = |wanted: u8| text.split(|byte| *byte == wanted).count() - 1;
    match lines(b'\n') {
        0 => lines(b'\r'),
        breaks => breaks,
    }
}

/// The one certificate of a section, its lines freed of spaces round them, as in an indented block.
fn certificate(section: &[u8]) -> Option<CertificateDer<'static>> {
    let lines = section.split(|byte| matches!(byte, b'\n' | b'\r')).map(<[u8]>::trim_ascii);
    let mut text = Vec::with_capacity(section.len() + 1);
    for line in lines.filter(|line| !line.is_empty()) {
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    CertificateDer::from_pem_slice(&text).ok()
}
