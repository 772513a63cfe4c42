package main

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// chainCase is what a server shows to a client, and what Go's client says.
type chainCase struct {
	// What names what is special about it.
	What []string `json:"what"`
	// Chain is in DER, the server's own first.
	Chain [][]byte `json:"chain"`
	// Roots is a bundle in PEM.
	Roots string `json:"roots"`
	Host  string `json:"host"`
	// Time is in seconds since 1970.
	Time     int64  `json:"time"`
	Verified bool   `json:"verified"`
	Kind     string `json:"kind"`
	Error    string `json:"error"`
}

func judgeCertificates(chance *rand.Rand, count int, answers *json.Encoder) error {
	keys, err := makeKeys()
	if err != nil {
		return err
	}
	for number := range count {
		made, err := makeChain(chance, keys, number)
		if err != nil {
			return fmt.Errorf("case %d: %w", number, err)
		}
		if err := made.judge(); err != nil {
			made.Kind, made.Error = kindOf(err, time.Unix(made.Time, 0)), err.Error()
		} else {
			made.Verified = true
		}
		if err := answers.Encode(made); err != nil {
			return err
		}
	}
	return nil
}

var errUnreadable = errors.New("tls: failed to parse certificate from server")

// judge does what a client does (crypto/tls, Conn.verifyServerCertificate).
func (made *chainCase) judge() error {
	options := x509.VerifyOptions{
		Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), DNSName: made.Host, CurrentTime: time.Unix(made.Time, 0),
	}
	options.Roots.AppendCertsFromPEM([]byte(made.Roots))
	var leaf *x509.Certificate
	for position, der := range made.Chain {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("%w: %w", errUnreadable, err)
		}
		if position == 0 {
			leaf = certificate
		} else {
			options.Intermediates.AddCert(certificate)
		}
	}
	_, err := leaf.Verify(options)
	return err
}

// kindOf is a word for an error.
func kindOf(err error, now time.Time) string {
	var (
		hostname x509.HostnameError
		issuer   x509.UnknownAuthorityError
		critical x509.UnhandledCriticalExtension
		invalid  x509.CertificateInvalidError
	)
	switch {
	case errors.Is(err, errUnreadable):
		return "unreadable"
	case errors.As(err, &hostname):
		return "name"
	case errors.As(err, &issuer):
		return "issuer"
	case errors.As(err, &critical):
		return "critical"
	case !errors.As(err, &invalid):
		return "other"
	}
	switch invalid.Reason {
	case x509.Expired:
		if now.Before(invalid.Cert.NotBefore) {
			return "not yet valid"
		}
		return "expired"
	case x509.IncompatibleUsage:
		return "usage"
	default:
		return "constraints"
	}
}

// bundleCase is a text that may hold authorities, and what Go makes of it.
type bundleCase struct {
	What []string `json:"what"`
	Text []byte   `json:"text"`
	// Begun is how many certificates begin in it.
	Begun int `json:"begun"`
	// Read is how many of them CertPool.AppendCertsFromPEM takes.
	Read int `json:"read"`
	// Taken are their subjects, in DER, each once.
	Taken [][]byte `json:"taken"`
}

func readBundles(chance *rand.Rand, count int, answers *json.Encoder) error {
	keys, err := makeKeys()
	if err != nil {
		return err
	}
	authorities, err := makeAuthorities(keys, 12)
	if err != nil {
		return err
	}
	for range count {
		made := makeBundle(chance, authorities)
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(made.Text)
		made.Begun = bytes.Count(made.Text, []byte("-----BEGIN CERTIFICATE-----"))
		made.Read = readable(made.Text)
		//lint:ignore SA1019 this pool is none of the system's
		made.Taken = pool.Subjects()
		if err := answers.Encode(made); err != nil {
			return err
		}
	}
	return nil
}

// readable counts as CertPool.AppendCertsFromPEM reads, which does not say how many it takes.
func readable(text []byte) int {
	count := 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" || len(block.Headers) != 0 {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err == nil {
			count++
		}
	}
	return count
}

func inPEM(certificates ...[]byte) string {
	var text bytes.Buffer
	for _, der := range certificates {
		// A buffer takes everything.
		_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	return text.String()
}
