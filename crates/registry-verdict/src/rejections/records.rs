//! Rejections as bytes, in records of equal length. Pure.

use k8s_openapi::jiff::Timestamp;

use super::table::{Digest, HostRefusal, Stored};
use crate::ecr::{Api, KeyRefusal};

/// The first byte, which identifies the format.
const FORMAT: u8 = 1;
/// The length of a record: digest, kind of refusal, and time of the first one in seconds.
const LENGTH: usize = 16 + 1 + 8;
/// The maximum number of stored records: about 270 KB as Kubernetes stores them.
pub const MOST_RECORDS: usize = 8192;
/// The first code of AWS's refusals: two for each [`KeyRefusal`], by its number.
const AWS: u8 = 16;

/// Encodes at most [`MOST_RECORDS`] rejections, the newest.
pub fn encode(mut rejections: Vec<(Digest, Stored)>) -> Vec<u8> {
    rejections.sort_by_key(|(digest, stored)| (std::cmp::Reverse(stored.since), *digest));
    rejections.truncate(MOST_RECORDS);
    let mut bytes = vec![FORMAT];
    for (digest, stored) in rejections {
        bytes.extend(digest);
        bytes.push(code(stored.refusal));
        bytes.extend(whole_seconds(stored.since).to_be_bytes());
    }
    bytes
}

/// Rounds up, because a pause that began earlier would end earlier.
fn whole_seconds(time: Timestamp) -> i64 {
    time.as_second() + i64::from(time.subsec_nanosecond() > 0)
}

/// Decodes what [`encode`] wrote. Skips records that can't be decoded, and everything in another format.
pub fn decode(bytes: &[u8]) -> Vec<(Digest, Stored)> {
    match bytes.split_first() {
        Some((&FORMAT, records)) => records.chunks_exact(LENGTH).filter_map(record).collect(),
        _ => Vec::new(),
    }
}

fn record(bytes: &[u8]) -> Option<(Digest, Stored)> {
    let (digest, rest) = bytes.split_first_chunk::<16>()?;
    let (refusal, rest) = rest.split_first()?;
    let (seconds, _) = rest.split_first_chunk::<8>()?;
    let since = Timestamp::from_second(i64::from_be_bytes(*seconds)).ok()?;
    Some((*digest, Stored { refusal: refusal_of(*refusal)?, since }))
}

fn code(refusal: HostRefusal) -> u8 {
    match refusal {
        HostRefusal::Rejected => 1,
        HostRefusal::Forbidden => 2,
        HostRefusal::Expired => 3,
        HostRefusal::Aws(api, refusal) => aws_code(api, refusal),
    }
}

fn refusal_of(code: u8) -> Option<HostRefusal> {
    match code {
        1 => Some(HostRefusal::Rejected),
        2 => Some(HostRefusal::Forbidden),
        3 => Some(HostRefusal::Expired),
        code => aws_refusal(code),
    }
}

fn aws_code(api: Api, refusal: KeyRefusal) -> u8 {
    AWS + 2 * refusal as u8 + u8::from(api == Api::Sts)
}

fn aws_refusal(code: u8) -> Option<HostRefusal> {
    let code = code.checked_sub(AWS)?;
    let api = if code % 2 == 1 { Api::Sts } else { Api::Ecr };
    KeyRefusal::from_repr(code / 2).map(|refusal| HostRefusal::Aws(api, refusal))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusals() -> impl Strategy<Value = HostRefusal> {
        let aws = (0..6u8, any::<bool>()).prop_map(|(number, sts)| {
            let api = if sts { Api::Sts } else { Api::Ecr };
            HostRefusal::Aws(api, KeyRefusal::from_repr(number).unwrap())
        });
        prop_oneof![
            Just(HostRefusal::Rejected),
            Just(HostRefusal::Forbidden),
            Just(HostRefusal::Expired),
            aws
        ]
    }

    proptest! {
        #[test]
        fn reads_what_it_wrote(
            records in prop::collection::vec((any::<Digest>(), refusals(), 0i64..4_000_000_000), 0..20),
        ) {
            let mut rejections: Vec<_> = records
                .into_iter()
                .map(|(digest, refusal, since)| {
                    (digest, Stored { refusal, since: Timestamp::from_second(since).unwrap() })
                })
                .collect();
            let read = decode(&encode(rejections.clone()));
            rejections.sort_by_key(|(digest, stored)| (std::cmp::Reverse(stored.since), *digest));
            prop_assert_eq!(read, rejections);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            decode(&bytes);
        }
    }

    #[test]
    fn fits_into_a_secret() {
        let since = |second| Timestamp::from_second(second).unwrap();
        let all = (0..20_000u32).map(|index| {
            let mut digest = Digest::default();
            digest[..4].copy_from_slice(&index.to_be_bytes());
            (digest, Stored { refusal: HostRefusal::Rejected, since: since(index.into()) })
        });
        let bytes = encode(all.collect());
        assert!(bytes.len() * 4 / 3 < 512 * 1024, "{}", bytes.len());
        assert!(decode(&bytes).iter().all(|(_, stored)| stored.since >= since(20_000 - 8192)));
    }

    #[test]
    fn codes_of_aws_stay_between_versions() {
        for (code, refusal) in [
            (16, HostRefusal::Aws(Api::Ecr, KeyRefusal::UnknownKey)),
            (17, HostRefusal::Aws(Api::Sts, KeyRefusal::UnknownKey)),
            (18, HostRefusal::Aws(Api::Ecr, KeyRefusal::UnknownKeyOrSession)),
            (20, HostRefusal::Aws(Api::Ecr, KeyRefusal::WrongSecret)),
            (22, HostRefusal::Aws(Api::Ecr, KeyRefusal::Malformed)),
            (24, HostRefusal::Aws(Api::Ecr, KeyRefusal::WrongRegion)),
            (27, HostRefusal::Aws(Api::Sts, KeyRefusal::Expired)),
        ] {
            assert_eq!((super::code(refusal), refusal_of(code)), (code, Some(refusal)));
        }
        assert_eq!(refusal_of(28), None);
    }

    #[test]
    fn storing_shortens_no_pause() {
        let stored = Stored { refusal: HostRefusal::Rejected, since: Timestamp::new(100, 1).unwrap() };
        let read = decode(&encode(vec![([0; 16], stored)]));
        assert_eq!(read[0].1.since, Timestamp::from_second(101).unwrap());
        assert_eq!(decode(&encode(read.clone())), read, "nor does storing it again lengthen it");
    }
}
