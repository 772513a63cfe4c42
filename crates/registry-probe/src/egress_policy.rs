//! The egress policy: which addresses a validation may connect to.
//!
//! The author of an endpoint chooses where the operator connects to, so without an egress policy the prober is a way
//! into the network that it runs in (SSRF). Decides about one address. The connector makes sure that every address is checked
//! when it is connected to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

pub use ipnet::IpNet;
use ipnet::{Ipv4Net, Ipv6Net};

/// The scope of an endpoint's author, which determines the built-in denials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EgressScope {
    /// Written by an administrator: every address is allowed except the metadata addresses of clouds.
    System,
    /// Written by a tenant: loopback, unspecified, link-local, multicast and reserved addresses are denied as
    /// well.
    Tenant,
}

/// Which addresses may be connected to.
///
/// Of all ranges that contain an address (built-in ones and the administrator's), the most specific decides.
/// Between equal ranges, the administrator's denial comes first, then the administrator's exception, then the
/// built-in denial. So `allow 127.0.0.0/8` opens loopback, and `allow 0.0.0.0/0` opens no range that has a built-in
/// denial.
#[derive(Debug, Clone)]
pub struct EgressPolicy {
    scope: EgressScope,
    allow: Arc<[IpNet]>,
    deny: Arc<[IpNet]>,
}

/// Metadata services of clouds, which give credentials to every process on the machine.
const METADATA: [IpNet; 8] = [
    v4([169, 254, 169, 254], 32), // AWS, Azure, Google, Oracle, OpenStack
    v4([169, 254, 170, 2], 32),   // AWS ECS
    v4([169, 254, 170, 23], 32),  // AWS EKS Pod Identity
    v4([168, 63, 129, 16], 32),   // Azure WireServer
    v4([192, 0, 0, 192], 32),     // Oracle, older
    v4([100, 100, 100, 200], 32), // Alibaba
    v6([0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0], 32),
    v6([0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0], 32),
];

/// Addresses that never lead to a registry of someone else's (RFC 6890, RFC 4291).
const NOT_FOR_TENANTS: [IpNet; 13] = [
    v4([0, 0, 0, 0], 8),
    v4([127, 0, 0, 0], 8),
    v4([169, 254, 0, 0], 16),
    v4([192, 0, 0, 0], 24),
    v4([198, 18, 0, 0], 15),
    v4([224, 0, 0, 0], 4),
    v4([240, 0, 0, 0], 4),
    v6([0, 0, 0, 0, 0, 0, 0, 0], 128),
    v6([0, 0, 0, 0, 0, 0, 0, 1], 128),
    v6([0x0100, 0, 0, 0, 0, 0, 0, 0], 64),
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),
    v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10),
    v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8),
];

const fn v4([a, b, c, d]: [u8; 4], prefix: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix))
}

const fn v6(s: [u16; 8], prefix: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]), prefix))
}

impl EgressPolicy {
    /// An egress policy for endpoints of `scope`, with the administrator's exceptions and further denials.
    pub fn new(scope: EgressScope, allow: impl Into<Arc<[IpNet]>>, deny: impl Into<Arc<[IpNet]>>) -> Self {
        Self { scope, allow: allow.into(), deny: deny.into() }
    }

    /// Whether this address may be connected to. An IPv6 address that embeds an IPv4 address must be allowed as both.
    pub fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.allows_plain(address) && embedded(address).is_none_or(|inner| self.allows_plain(inner.into()))
    }

    fn allows_plain(&self, address: IpAddr) -> bool {
        let denied = narrowest(&self.deny, address);
        let allowed = narrowest(&self.allow, address);
        let built_in = self.built_in().filter_map(|net| prefix_around(net, address)).max();
        if denied.is_some() && denied >= allowed {
            return false;
        }
        allowed >= built_in
    }

    fn built_in(&self) -> impl Iterator<Item = &'static IpNet> {
        let for_tenants = (self.scope == EgressScope::Tenant).then_some(&NOT_FOR_TENANTS);
        METADATA.iter().chain(for_tenants.into_iter().flatten())
    }
}

fn narrowest(nets: &[IpNet], address: IpAddr) -> Option<u8> {
    nets.iter().filter_map(|net| prefix_around(net, address)).max()
}

fn prefix_around(net: &IpNet, address: IpAddr) -> Option<u8> {
    net.contains(&address).then(|| net.prefix_len())
}

/// The IPv4 address that a gateway or the kernel would extract from an IPv6 address: IPv4-compatible (RFC 4291),
/// NAT64 (RFC 6052, RFC 8215), 6to4 (RFC 3056), Teredo (RFC 4380).
fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    let pair = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        [0, 0, 0, 0, 0, 0, high @ 1..=u16::MAX, low]
        | [0x64, 0xff9b, _, _, _, _, high, low]
        | [0x2002, high, low, ..] => Some(pair(high, low)),
        [0x2001, 0, _, _, _, _, high, low] => Some(pair(!high, !low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Arc<[IpNet]> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn allows(scope: EgressScope, allow: &[&str], deny: &[&str], address: &str) -> bool {
        EgressPolicy::new(scope, nets(allow), nets(deny)).allows(address.parse().unwrap())
    }

    #[test]
    fn tenants_reach_public_and_private_but_not_local() {
        for address in
            ["8.8.8.8", "10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "2001:db8::1", "fd00::1"]
        {
            assert!(allows(EgressScope::Tenant, &[], &[], address), "{address}");
        }
        for address in [
            "127.0.0.1",
            "127.255.255.255",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.0.1",
            "169.254.169.254",
            "100.100.100.200",
            "168.63.129.16",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "fec0::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::a9fe:a9fe",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "2001:0:4136:e378:8000:63bf:5601:5601",
        ] {
            assert!(!allows(EgressScope::Tenant, &[], &[], address), "{address}");
        }
    }

    #[test]
    fn system_scope_reaches_all_but_metadata() {
        for address in ["127.0.0.1", "::1", "169.254.0.1", "10.0.0.1", "fe80::1"] {
            assert!(allows(EgressScope::System, &[], &[], address), "{address}");
        }
        for address in [
            "169.254.169.254",
            "169.254.170.2",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
        ] {
            assert!(!allows(EgressScope::System, &[], &[], address), "{address}");
        }
    }

    #[test]
    fn most_specific_range_decides() {
        let tenant =
            |allow: &[&str], deny: &[&str], address| allows(EgressScope::Tenant, allow, deny, address);
        assert!(tenant(&["127.0.0.0/8"], &[], "127.0.0.1"));
        assert!(tenant(&["127.0.0.1/32"], &[], "::ffff:127.0.0.1"));
        assert!(!tenant(&["127.0.0.1/32"], &[], "127.0.0.2"));
        assert!(!tenant(&["0.0.0.0/0"], &[], "127.0.0.1"), "all is not an exception for loopback");
        assert!(!tenant(&["169.254.0.0/16"], &[], "169.254.169.254"));
        assert!(tenant(&["169.254.169.254/32"], &[], "169.254.169.254"), "asked for by name");
        assert!(!tenant(&[], &["10.0.0.0/8"], "10.1.2.3"));
        assert!(tenant(&["10.1.2.3/32"], &["10.0.0.0/8"], "10.1.2.3"));
        assert!(!tenant(&["10.0.0.0/8"], &["10.1.0.0/16"], "10.1.2.3"));
        assert!(!tenant(&["10.0.0.0/8"], &["10.0.0.0/8"], "10.1.2.3"), "a tie is a denial");
        assert!(!tenant(&[], &["10.0.0.0/8"], "64:ff9b::a01:203"));
    }

    #[test]
    fn most_specific_of_several_ranges_decides() {
        let (allow, deny) = (["10.0.0.0/8", "10.1.2.3/32"], ["10.1.0.0/16"]);
        assert!(allows(EgressScope::Tenant, &allow, &deny, "10.1.2.3"));
        assert!(!allows(EgressScope::Tenant, &allow, &deny, "10.1.2.4"));
        assert!(allows(EgressScope::Tenant, &allow, &deny, "10.2.0.1"));
    }
}
