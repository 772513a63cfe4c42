package main

import (
	"crypto/x509"
	"fmt"
	"math/big"
)

// shapes change which certificates are shown and trusted.
var shapes = []change{
	{"root shown too", func(p *plan) {
		p.shown = append(p.shown, func(m *made) { m.chain = append(m.chain, m.root) })
	}},
	{"out of order", func(p *plan) {
		p.lengthen(2)
		p.shown = append(p.shown, func(m *made) {
			p.chance.Shuffle(len(m.chain)-1, func(a, b int) { m.chain[a+1], m.chain[b+1] = m.chain[b+1], m.chain[a+1] })
		})
	}},
	{"intermediate missing", func(p *plan) {
		p.lengthen(1)
		p.shown = append(p.shown, func(m *made) { m.chain = append(m.chain[:1:1], m.chain[2:]...) })
	}},
	{"certificates shown twice", func(p *plan) {
		p.shown = append(p.shown, func(m *made) { m.chain = append(m.chain, m.chain...) })
	}},
	{"stranger shown too", func(p *plan) {
		stranger, err := alone(p.authority("stranger"))
		p.shown = append(p.shown, func(m *made) {
			if err == nil {
				m.chain = append(m.chain, stranger)
			}
		})
	}},
	{"something else shown too", func(p *plan) {
		p.shown = append(p.shown, func(m *made) { m.chain = append(m.chain, []byte{0x30, 3, 2, 1, 5}) })
	}},
	{"ten intermediates", func(p *plan) { p.lengthen(10) }},
	{"self-signed, trusted", func(p *plan) {
		p.selfSigned()
		p.trusted = append(p.trusted, func(m *made) { m.roots = inPEM(m.leaf) })
	}},
	{"self-signed", func(p *plan) { p.selfSigned() }},
	{"self-signed authority, trusted", func(p *plan) {
		p.selfSigned()
		p.leaf.template.BasicConstraintsValid, p.leaf.template.IsCA, p.leaf.template.MaxPathLen = true, true, -1
		p.trusted = append(p.trusted, func(m *made) { m.roots = inPEM(m.leaf) })
	}},
	{"leaf trusted itself", func(p *plan) {
		p.trusted = append(p.trusted, func(m *made) { m.roots = inPEM(m.leaf) })
	}},
	{"intermediate trusted", func(p *plan) {
		p.lengthen(1)
		p.trusted = append(p.trusted, func(m *made) { m.roots = inPEM(m.inters[len(m.inters)-1]) })
	}},
	{"stranger trusted", func(p *plan) {
		stranger, err := alone(p.authority("stranger"))
		p.trusted = append(p.trusted, func(m *made) {
			if err == nil {
				m.roots = inPEM(stranger)
			}
		})
	}},
	{"stranger trusted too", func(p *plan) {
		stranger, err := alone(p.authority("stranger"))
		p.trusted = append(p.trusted, func(m *made) {
			if err == nil {
				m.roots = inPEM(stranger) + m.roots
			}
		})
	}},
	{"made anew under the same name", func(p *plan) {
		again := *p.root
		again.key = p.key(common...)
		other, err := alone(&again)
		p.trusted = append(p.trusted, func(m *made) {
			if err == nil {
				m.roots = inPEM(other)
			}
		})
	}},
	{"old and new under the same name", func(p *plan) {
		again := *p.root
		again.key = p.key(common...)
		other, err := alone(&again)
		p.trusted = append(p.trusted, func(m *made) {
			if err == nil {
				m.roots = inPEM(other) + m.roots
			}
		})
	}},
	{"expired twin of the root", func(p *plan) {
		again := *p.root
		again.template.NotAfter = p.now.Add(-year)
		other, err := alone(&again)
		p.trusted = append(p.trusted, func(m *made) {
			if err == nil {
				m.roots = inPEM(other) + m.roots
			}
		})
	}},
}

// lengthen makes the chain have at least this many intermediates.
func (p *plan) lengthen(least int) {
	for len(p.inters) < least {
		p.inters = append(p.inters, p.authority(fmt.Sprintf("intermediate %d", len(p.inters))))
	}
}

// selfSigned leaves the leaf alone, as its own issuer.
func (p *plan) selfSigned() {
	p.shown = append(p.shown, func(m *made) {
		if der, err := alone(p.leaf); err == nil {
			m.leaf, m.chain = der, [][]byte{der}
		}
	})
}

// alone issues a certificate that is its own issuer.
func alone(one *node) ([]byte, error) {
	self := *one
	self.algorithm = 0
	return self.issue(&self)
}

// makeAuthorities makes that many authorities, each of another name; every third without basic constraints, as servers' are.
func makeAuthorities(keys keyring, count int) ([][]byte, error) {
	var all [][]byte
	for number := range count {
		one := &node{key: keys["p256"][number%8], template: x509.Certificate{
			SerialNumber: big.NewInt(int64(number) + 1), NotBefore: start.Add(-year), NotAfter: start.Add(year),
			BasicConstraintsValid: number%3 != 2, IsCA: number%3 != 2,
		}}
		one.template.Subject.CommonName = fmt.Sprintf("authority %d", number)
		der, err := alone(one)
		if err != nil {
			return nil, err
		}
		all = append(all, der)
	}
	return all, nil
}
