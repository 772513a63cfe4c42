package main

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"net/url"
	"time"
)

// change makes a chain special.
type change struct {
	name  string
	apply func(*plan)
}

var changes = concat(namesOfServers, dates, purposes, extensions, authoritiesAndKeys, shapes, encodings)

func concat(lists ...[]change) []change {
	var all []change
	for _, list := range lists {
		all = append(all, list...)
	}
	return all
}

func names(names ...string) func(*plan) {
	return func(p *plan) { p.leaf.template.DNSNames = names }
}

var namesOfServers = []change{
	{"name in upper case", names("REGISTRY.Example.Test")},
	{"wildcard", names("*.example.test")},
	{"wildcard, two labels above", names("*.test")},
	{"wildcard for part of a label", names("reg*.example.test")},
	{"wildcard in the middle", names("registry.*.test")},
	{"bare wildcard", names("*")},
	{"other name", names("other.example.test")},
	{"name and others", names("a.example", "b.example", host)},
	{"name with a dot at its end", names(host + ".")},
	{"name with underscore", func(p *plan) { p.host = "my_registry.example.test"; names(p.host)(p) }},
	{"empty name", names("")},
	{"name with a space", names("registry example", host)},
	{"name of a label with a hyphen at its end", names("registry-.example.test", host)},
	{"name in punycode", func(p *plan) { p.host = "xn--bcher-kva.example"; names(p.host)(p) }},
	{"two hundred names", func(p *plan) {
		for range 200 {
			p.leaf.template.DNSNames = append([]string{"other.example.test"}, p.leaf.template.DNSNames...)
		}
	}},
	{"no names, common name only", func(p *plan) {
		p.leaf.template.DNSNames = nil
		p.leaf.template.Subject.CommonName = host
	}},
	{"no subject", func(p *plan) { p.leaf.template.Subject = pkix.Name{} }},
	{"address", func(p *plan) { p.host = "127.0.0.1"; p.leaf.template.IPAddresses = loopback() }},
	{"address of version 6", func(p *plan) { p.host = "::1"; p.leaf.template.IPAddresses = loopback() }},
	{"address mapped into version 6", func(p *plan) {
		p.host = "127.0.0.1"
		address := append([]byte{0x30, 18, 0x87, 16}, net.IPv4(127, 0, 0, 1).To16()...)
		p.leaf.edits = append(p.leaf.edits, add(pkix.Extension{Id: oid(2, 5, 29, 17), Value: address}))
	}},
	{"other address", func(p *plan) {
		p.host = "127.0.0.1"
		p.leaf.template.IPAddresses = []net.IP{net.IPv4(10, 0, 0, 1)}
	}},
	{"address as a name", func(p *plan) { p.host = "127.0.0.1"; names(p.host)(p) }},
	{"mail addresses and links too", func(p *plan) {
		p.leaf.template.EmailAddresses = []string{"admin@example.test"}
		p.leaf.template.URIs = []*url.URL{{Scheme: "spiffe", Host: "example.test", Path: "/registry"}}
	}},
	{"mail address only", func(p *plan) {
		p.leaf.template.DNSNames = nil
		p.leaf.template.EmailAddresses = []string{"admin@example.test"}
	}},
	{"host in upper case is asked for in lower case", names("REGISTRY.EXAMPLE.TEST", "a.example")},
}

// validity moves now to where a certificate's dates end.
var dates = []change{
	{"expired", func(p *plan) { p.leaf.template.NotAfter = p.now.Add(-time.Hour) }},
	{"not yet valid", func(p *plan) { p.leaf.template.NotBefore = p.now.Add(time.Hour) }},
	{"last second", func(p *plan) { p.leaf.template.NotAfter = p.now }},
	{"a second late", func(p *plan) { p.leaf.template.NotAfter = p.now.Add(-time.Second) }},
	{"first second", func(p *plan) { p.leaf.template.NotBefore = p.now }},
	{"a second early", func(p *plan) { p.leaf.template.NotBefore = p.now.Add(time.Second) }},
	{"ends in 2049", func(p *plan) { p.leaf.template.NotAfter = time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC) }},
	{"ends in 2050", func(p *plan) { p.leaf.template.NotAfter = time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC) }},
	{"without end", func(p *plan) { p.leaf.template.NotAfter = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC) }},
	{"authorities without end", func(p *plan) {
		for _, one := range p.authorities() {
			one.template.NotAfter = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
		}
	}},
	{"since 1950", func(p *plan) { p.leaf.template.NotBefore = time.Date(1950, 1, 1, 0, 0, 0, 0, time.UTC) }},
	{"since 1969", func(p *plan) { p.root.template.NotBefore = time.Date(1969, 12, 31, 23, 59, 59, 0, time.UTC) }},
	{"ends before it begins", func(p *plan) {
		p.leaf.template.NotBefore, p.leaf.template.NotAfter = p.now.Add(time.Hour), p.now.Add(-time.Hour)
	}},
	{"in 2060", func(p *plan) {
		p.now = time.Date(2060, 6, 1, 0, 0, 0, 0, time.UTC)
		for _, one := range p.all() {
			one.template.NotAfter = p.now.Add(time.Hour)
		}
	}},
	{"expired authority", func(p *plan) { pick(p.chance, p.authorities()).template.NotAfter = p.now.Add(-time.Hour) }},
	{"authority not yet valid", func(p *plan) { pick(p.chance, p.authorities()).template.NotBefore = p.now.Add(time.Hour) }},
	{"expired root", func(p *plan) { p.root.template.NotAfter = p.now.Add(-time.Second) }},
	{"dates before 2050 in generalized time", func(p *plan) {
		one := pick(p.chance, p.all())
		one.edits = append(one.edits, func(content *toBeSigned) {
			content.Validity = validity("20200101000000Z", "20400101000000Z", asn1.TagGeneralizedTime)
		})
	}},
	{"dates without seconds", func(p *plan) {
		p.leaf.edits = append(p.leaf.edits, func(content *toBeSigned) {
			content.Validity = validity("2001010000Z", "4001010000Z", asn1.TagUTCTime)
		})
	}},
}

func validity(from, until string, tag int) asn1.RawValue {
	first := append([]byte{byte(tag), byte(len(from))}, from...)
	second := append([]byte{byte(tag), byte(len(until))}, until...)
	return asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: append(first, second...)}
}

func usage(usages ...x509.ExtKeyUsage) func(*plan) {
	return func(p *plan) { p.leaf.template.ExtKeyUsage = usages }
}

func usageOfAuthority(usages ...x509.ExtKeyUsage) func(*plan) {
	return func(p *plan) { pick(p.chance, p.authorities()).template.ExtKeyUsage = usages }
}

var purposes = []change{
	{"no extended key usage", usage()},
	{"for clients only", usage(x509.ExtKeyUsageClientAuth)},
	{"for clients and servers", usage(x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth)},
	{"for any purpose", usage(x509.ExtKeyUsageAny)},
	{"for code", usage(x509.ExtKeyUsageCodeSigning)},
	{"for step-up", usage(x509.ExtKeyUsageNetscapeServerGatedCrypto)},
	{"for a purpose of one's own", func(p *plan) {
		p.leaf.template.ExtKeyUsage = nil
		p.leaf.template.UnknownExtKeyUsage = []asn1.ObjectIdentifier{oid(1, 3, 6, 1, 4, 1, 99999, 1)}
	}},
	{"authority for clients only", usageOfAuthority(x509.ExtKeyUsageClientAuth)},
	{"authority for servers", usageOfAuthority(x509.ExtKeyUsageServerAuth)},
	{"authority for any purpose", usageOfAuthority(x509.ExtKeyUsageAny)},
	{"authority for clients and servers", usageOfAuthority(x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth)},
	{"no key usage", func(p *plan) { p.leaf.template.KeyUsage = 0 }},
	{"key usage for encryption only", func(p *plan) { p.leaf.template.KeyUsage = x509.KeyUsageKeyEncipherment }},
	{"key usage for certificates only", func(p *plan) { p.leaf.template.KeyUsage = x509.KeyUsageCertSign }},
	{"authority without key usage", func(p *plan) { pick(p.chance, p.authorities()).template.KeyUsage = 0 }},
	{"authority not for certificates", func(p *plan) {
		pick(p.chance, p.authorities()).template.KeyUsage = x509.KeyUsageDigitalSignature
	}},
	{"authority that says it is none", func(p *plan) {
		one := pick(p.chance, p.authorities())
		one.template.IsCA = false
	}},
	{"authority without basic constraints", func(p *plan) {
		pick(p.chance, p.authorities()).template.BasicConstraintsValid = false
	}},
	{"leaf that says it is an authority", func(p *plan) {
		p.leaf.template.BasicConstraintsValid, p.leaf.template.IsCA, p.leaf.template.MaxPathLen = true, true, -1
	}},
	{"no further authorities", func(p *plan) {
		one := pick(p.chance, p.authorities())
		one.template.MaxPathLen, one.template.MaxPathLenZero = 0, true
	}},
	{"one further authority", func(p *plan) { pick(p.chance, p.authorities()).template.MaxPathLen = 1 }},
}

func oid(numbers ...int) asn1.ObjectIdentifier {
	return numbers
}

func add(extension pkix.Extension) func(*toBeSigned) {
	return func(content *toBeSigned) {
		kept := content.Extensions[:0]
		for _, other := range content.Extensions {
			if !other.Id.Equal(extension.Id) {
				kept = append(kept, other)
			}
		}
		content.Extensions = append(kept, extension)
	}
}

func extra(on func(*plan) *node, extension pkix.Extension) func(*plan) {
	return func(p *plan) {
		one := on(p)
		one.edits = append(one.edits, add(extension))
	}
}

func leaf(p *plan) *node      { return p.leaf }
func root(p *plan) *node      { return p.root }
func authority(p *plan) *node { return pick(p.chance, p.authorities()) }
func any1(p *plan) *node      { return pick(p.chance, p.all()) }

var (
	anyPolicy  = []byte{0x30, 8, 0x30, 6, 6, 4, 0x55, 0x1d, 0x20, 0}
	ownPolicy  = []byte{0x30, 7, 0x30, 5, 6, 3, 0x2a, 3, 4}
	noMapping  = []byte{0x30, 3, 0x81, 1, 0}
	explicit   = []byte{0x30, 3, 0x80, 1, 0}
	crl        = []byte{0x30, 14, 0x30, 12, 0xa0, 10, 0xa0, 8, 0x86, 6, 'h', 't', 't', 'p', ':', '/'}
	ownOID     = oid(1, 3, 6, 1, 4, 1, 99999, 2)
	mustStaple = oid(1, 3, 6, 1, 5, 5, 7, 1, 24)
)

var extensions = []change{
	{"unknown extension", extra(any1, pkix.Extension{Id: ownOID, Value: []byte{5, 0}})},
	{"leaf with unknown critical extension", extra(leaf, pkix.Extension{Id: ownOID, Critical: true, Value: []byte{5, 0}})},
	{"authority with unknown critical extension", extra(authority, pkix.Extension{Id: ownOID, Critical: true, Value: []byte{5, 0}})},
	{"root with unknown critical extension", extra(root, pkix.Extension{Id: ownOID, Critical: true, Value: []byte{5, 0}})},
	{"leaf with critical policies", extra(leaf, pkix.Extension{Id: oid(2, 5, 29, 32), Critical: true, Value: ownPolicy})},
	{"authority with critical policies", extra(authority, pkix.Extension{Id: oid(2, 5, 29, 32), Critical: true, Value: anyPolicy})},
	{"authority with critical policy constraints", extra(authority, pkix.Extension{Id: oid(2, 5, 29, 36), Critical: true, Value: noMapping})},
	{"authority that requires a policy", extra(authority, pkix.Extension{Id: oid(2, 5, 29, 36), Critical: true, Value: explicit})},
	{"authority that requires a policy, not critical", extra(authority, pkix.Extension{Id: oid(2, 5, 29, 36), Value: explicit})},
	{"authority with critical inhibitAnyPolicy", extra(authority, pkix.Extension{Id: oid(2, 5, 29, 54), Critical: true, Value: []byte{2, 1, 0}})},
	{"critical CRL distribution points", extra(any1, pkix.Extension{Id: oid(2, 5, 29, 31), Critical: true, Value: crl})},
	{"CRL distribution points", extra(any1, pkix.Extension{Id: oid(2, 5, 29, 31), Value: crl})},
	{"critical key identifier", extra(any1, pkix.Extension{Id: oid(2, 5, 29, 14), Critical: true, Value: []byte{4, 2, 1, 2}})},
	{"critical must-staple", extra(leaf, pkix.Extension{Id: mustStaple, Critical: true, Value: []byte{0x30, 3, 2, 1, 5}})},
	{"must-staple", extra(leaf, pkix.Extension{Id: mustStaple, Value: []byte{0x30, 3, 2, 1, 5}})},
	{"critical extended key usage", extra(leaf, pkix.Extension{Id: oid(2, 5, 29, 37), Critical: true, Value: []byte{0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1}})},
	{"empty extended key usage", extra(leaf, pkix.Extension{Id: oid(2, 5, 29, 37), Value: []byte{0x30, 0}})},
	{"critical names", func(p *plan) {
		p.leaf.edits = append(p.leaf.edits, func(content *toBeSigned) {
			for position := range content.Extensions {
				if content.Extensions[position].Id.Equal(oid(2, 5, 29, 17)) {
					content.Extensions[position].Critical = true
				}
			}
		})
	}},
	{"basic constraints that are not critical", func(p *plan) {
		one := authority(p)
		one.edits = append(one.edits, func(content *toBeSigned) {
			for position := range content.Extensions {
				content.Extensions[position].Critical = false
			}
		})
	}},
	{"the same extension twice", func(p *plan) {
		one := any1(p)
		one.edits = append(one.edits, func(content *toBeSigned) {
			if len(content.Extensions) > 0 {
				content.Extensions = append(content.Extensions, content.Extensions[0])
			}
		})
	}},
	{"permitted domain", constrain(func(t *x509.Certificate) { t.PermittedDNSDomains = []string{"example.test"} })},
	{"permitted subdomains", constrain(func(t *x509.Certificate) { t.PermittedDNSDomains = []string{".example.test"} })},
	{"other permitted domain", constrain(func(t *x509.Certificate) { t.PermittedDNSDomains = []string{"example.org"} })},
	{"excluded domain", constrain(func(t *x509.Certificate) { t.ExcludedDNSDomains = []string{"example.test"} })},
	{"other excluded domain", constrain(func(t *x509.Certificate) { t.ExcludedDNSDomains = []string{"example.org"} })},
	{"permitted network", constrain(func(t *x509.Certificate) { t.PermittedIPRanges = network("127.0.0.0/8") })},
	{"excluded network", constrain(func(t *x509.Certificate) { t.ExcludedIPRanges = network("127.0.0.0/8") })},
	{"permitted mail addresses", constrain(func(t *x509.Certificate) { t.PermittedEmailAddresses = []string{"example.test"} })},
	{"constrained root", func(p *plan) {
		p.root.template.PermittedDNSDomains = []string{pick(p.chance, []string{"example.test", "example.org"})}
		p.root.template.PermittedDNSDomainsCritical = p.is(50)
	}},
}

func constrain(change func(*x509.Certificate)) func(*plan) {
	return func(p *plan) {
		one := authority(p)
		one.template.PermittedDNSDomainsCritical = p.is(50)
		change(&one.template)
	}
}

func network(text string) []*net.IPNet {
	_, network, _ := net.ParseCIDR(text)
	return []*net.IPNet{network}
}

func keysOf(on func(*plan) *node, kind string) func(*plan) {
	return func(p *plan) { on(p).key = p.key(kind) }
}

var authoritiesAndKeys = []change{
	{"leaf with 1,024 bits", keysOf(leaf, "rsa1024")},
	{"authority with 1,024 bits", keysOf(authority, "rsa1024")},
	{"root with 3,072 bits", keysOf(root, "rsa3072")},
	{"leaf with P-521", keysOf(leaf, "p521")},
	{"authority with P-521", keysOf(authority, "p521")},
	{"leaf with P-224", keysOf(leaf, "p224")},
	{"authority with P-224", keysOf(authority, "p224")},
	{"leaf with Ed25519", keysOf(leaf, "ed25519")},
	{"authority with Ed25519", keysOf(authority, "ed25519")},
	{"leaf signed with SHA-1", func(p *plan) { p.signedWithSHA1(p.leaf) }},
	{"root signed with SHA-1", func(p *plan) { p.signedWithSHA1(p.root) }},
	{"something signed with SHA-1", func(p *plan) { p.signedWithSHA1(any1(p)) }},
	{"RSA-PSS", func(p *plan) {
		p.issuerOf(p.leaf).key = p.key("rsa2048")
		p.leaf.algorithm = pick(p.chance, []x509.SignatureAlgorithm{x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS})
	}},
	{"P-256 and SHA-512", func(p *plan) {
		p.issuerOf(p.leaf).key = p.key("p256")
		p.leaf.algorithm = x509.ECDSAWithSHA512
	}},
	{"P-384 and SHA-512", func(p *plan) {
		p.issuerOf(p.leaf).key = p.key("p384")
		p.leaf.algorithm = x509.ECDSAWithSHA512
	}},
}

// signedWithSHA1 leaves everything else as it is.
func (p *plan) signedWithSHA1(one *node) {
	issuer := p.issuerOf(one)
	if p.is(50) {
		issuer.key, one.algorithm = p.key("rsa2048"), x509.SHA1WithRSA
	} else {
		issuer.key, one.algorithm = p.key("p256"), x509.ECDSAWithSHA1
	}
}

var encodings = []change{
	{"leaf of version 1", func(p *plan) { p.leaf.edits = append(p.leaf.edits, version(0)) }},
	{"authority of version 1", func(p *plan) {
		one := authority(p)
		one.edits = append(one.edits, version(0))
	}},
	{"root of version 1", func(p *plan) { p.root.edits = append(p.root.edits, version(0)) }},
	{"version 3 without extensions", func(p *plan) {
		p.leaf.edits = append(p.leaf.edits, func(content *toBeSigned) { content.Extensions = nil })
	}},
	{"negative serial number", serial(big.NewInt(-5))},
	{"serial number of zero", serial(big.NewInt(0))},
	{"serial number of 24 bytes", serial(new(big.Int).Lsh(big.NewInt(77), 180))},
}

func version(number int) func(*toBeSigned) {
	return func(content *toBeSigned) { content.Version, content.Extensions = number, nil }
}

func serial(number *big.Int) func(*plan) {
	return func(p *plan) {
		one := any1(p)
		one.edits = append(one.edits, func(content *toBeSigned) { content.Serial = number })
	}
}
