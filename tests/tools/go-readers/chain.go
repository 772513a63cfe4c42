package main

import (
	"crypto"
	cryptorand "crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net"
	"time"
)

const host = "registry.example.test"

var (
	start = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	year  = 365 * 24 * time.Hour
)

// node is a certificate that is to be issued.
type node struct {
	template x509.Certificate
	key      crypto.Signer
	// algorithm is what its issuer signs it with; the usual one where it is 0.
	algorithm x509.SignatureAlgorithm
	// edits are done after it was made, for what Go does not make; it is signed again afterwards.
	edits []func(*toBeSigned)
}

// toBeSigned is a certificate's content (RFC 5280, section 4.1).
type toBeSigned struct {
	Version    int `asn1:"optional,explicit,default:0,tag:0"`
	Serial     *big.Int
	Algorithm  pkix.AlgorithmIdentifier
	Issuer     asn1.RawValue
	Validity   asn1.RawValue
	Subject    asn1.RawValue
	PublicKey  asn1.RawValue
	Extensions []pkix.Extension `asn1:"omitempty,optional,explicit,tag:3"`
}

type signed struct {
	Content   asn1.RawValue
	Algorithm pkix.AlgorithmIdentifier
	Signature asn1.BitString
}

// plan is a whole case before its certificates are issued.
type plan struct {
	chance *rand.Rand
	keys   keyring
	what   []string
	leaf   *node
	// inters are the intermediates, the leaf's issuer first.
	inters []*node
	root   *node
	host   string
	now    time.Time
	// shown and trusted change what the server shows and what is trusted.
	shown, trusted []func(*made)
}

// made is what was issued.
type made struct {
	leaf, root []byte
	inters     [][]byte
	chain      [][]byte
	roots      string
}

func (p *plan) key(kinds ...string) crypto.Signer {
	return pick(p.chance, p.keys[pick(p.chance, kinds)])
}

func pick[T any](chance *rand.Rand, from []T) T {
	return from[chance.IntN(len(from))]
}

func (p *plan) is(percent int) bool {
	return p.chance.IntN(100) < percent
}

// common are the kinds of keys that authorities and servers have.
var common = []string{"rsa2048", "rsa2048", "p256", "p256", "p256", "p384", "ed25519", "ed25519", "p521"}

func (p *plan) authority(name string) *node {
	serial := big.NewInt(p.chance.Int64N(1<<62) + 1)
	return &node{key: p.key(common...), template: x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name, Organization: []string{"Example"}},
		NotBefore: start.Add(-2 * year), NotAfter: start.Add(8 * year), BasicConstraintsValid: true, IsCA: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, MaxPathLen: -1, SubjectKeyId: serial.Bytes(),
	}}
}

func newPlan(chance *rand.Rand, keys keyring, number int) *plan {
	p := &plan{chance: chance, keys: keys, host: host, now: start}
	p.root = p.authority(fmt.Sprintf("root %d", number))
	for position := range chance.IntN(3) {
		p.inters = append([]*node{p.authority(fmt.Sprintf("intermediate %d.%d", number, position))}, p.inters...)
	}
	p.leaf = &node{key: p.key(common...), template: x509.Certificate{
		SerialNumber: big.NewInt(chance.Int64N(1<<62) + 1), Subject: pkix.Name{CommonName: "registry"},
		NotBefore: start.Add(-year / 2), NotAfter: start.Add(year / 2), DNSNames: []string{host},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: p.is(50),
	}}
	for _, one := range p.all() {
		// What is signed is not signed with the signer's usual algorithm only.
		if p.is(30) {
			one.algorithm = pick(chance, algorithms(p.issuerOf(one).key))
		}
	}
	return p
}

func (p *plan) all() []*node {
	return append(append([]*node{p.leaf}, p.inters...), p.root)
}

// authorities are all that sign.
func (p *plan) authorities() []*node {
	return p.all()[1:]
}

func (p *plan) issuerOf(one *node) *node {
	all := p.all()
	for position, other := range all {
		if other == one && position+1 < len(all) {
			return all[position+1]
		}
	}
	return p.root
}

func makeChain(chance *rand.Rand, keys keyring, number int) (*chainCase, error) {
	p := newPlan(chance, keys, number)
	for range pick(chance, []int{0, 1, 1, 1, 1, 2, 2, 3}) {
		change := pick(chance, changes)
		p.what = append(p.what, change.name)
		change.apply(p)
	}
	out, err := p.issue()
	if err != nil {
		return nil, err
	}
	out.chain = append([][]byte{out.leaf}, out.inters...)
	out.roots = inPEM(out.root)
	for _, change := range append(p.shown, p.trusted...) {
		change(out)
	}
	return &chainCase{What: p.what, Chain: out.chain, Roots: out.roots, Host: p.host, Time: p.now.Unix()}, nil
}

func (p *plan) issue() (*made, error) {
	out := &made{}
	for _, one := range p.all() {
		der, err := one.issue(p.issuerOf(one))
		if err != nil {
			return nil, fmt.Errorf("%v: %w", p.what, err)
		}
		switch one {
		case p.leaf:
			out.leaf = der
		case p.root:
			out.root = der
		default:
			out.inters = append(out.inters, der)
		}
	}
	return out, nil
}

func (one *node) issue(issuer *node) ([]byte, error) {
	template, parent := one.template, issuer.template
	template.SignatureAlgorithm = one.signedWith(issuer)
	der, err := x509.CreateCertificate(cryptorand.Reader, &template, &parent, one.key.Public(), issuer.key)
	if err != nil || len(one.edits) == 0 {
		return der, err
	}
	var whole signed
	var content toBeSigned
	if _, err := asn1.Unmarshal(der, &whole); err != nil {
		return nil, err
	}
	if _, err := asn1.Unmarshal(whole.Content.FullBytes, &content); err != nil {
		return nil, err
	}
	for _, edit := range one.edits {
		edit(&content)
	}
	text, err := asn1.Marshal(content)
	if err != nil {
		return nil, err
	}
	signature, err := sign(issuer.key, template.SignatureAlgorithm, text)
	if err != nil {
		return nil, err
	}
	whole.Content = asn1.RawValue{FullBytes: text}
	whole.Signature = asn1.BitString{Bytes: signature, BitLength: len(signature) * 8}
	return asn1.Marshal(whole)
}

// signedWith is the algorithm that was chosen, where the issuer's key can sign with it.
func (one *node) signedWith(issuer *node) x509.SignatureAlgorithm {
	known := append(algorithms(issuer.key), x509.SHA1WithRSA, x509.ECDSAWithSHA1)
	if _, isRSA := issuer.key.Public().(interface{ Size() int }); isRSA {
		known = known[:len(known)-1]
	} else if len(known) == 5 {
		known = append(known[:3], x509.ECDSAWithSHA1)
	} else {
		known = known[:1]
	}
	for _, algorithm := range known {
		if algorithm == one.algorithm {
			return algorithm
		}
	}
	return known[0]
}

func loopback() []net.IP {
	return []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
}
