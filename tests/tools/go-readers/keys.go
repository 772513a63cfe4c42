package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
)

// keyring holds the keys by kind, several of those that are made fast.
type keyring map[string][]crypto.Signer

func makeKeys() (keyring, error) {
	keys := keyring{}
	for kind, bits := range map[string]int{"rsa1024": 1024, "rsa2048": 2048, "rsa3072": 3072} {
		for range 2 {
			key, err := rsa.GenerateKey(rand.Reader, bits)
			if err != nil {
				return nil, err
			}
			keys[kind] = append(keys[kind], key)
		}
	}
	curves := map[string]elliptic.Curve{
		"p224": elliptic.P224(), "p256": elliptic.P256(), "p384": elliptic.P384(), "p521": elliptic.P521(),
	}
	for range 8 {
		for kind, curve := range curves {
			key, err := ecdsa.GenerateKey(curve, rand.Reader)
			if err != nil {
				return nil, err
			}
			keys[kind] = append(keys[kind], key)
		}
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		keys["ed25519"] = append(keys["ed25519"], key)
	}
	return keys, nil
}

// algorithms are those that a key of this kind can sign with, the usual one first.
func algorithms(key crypto.Signer) []x509.SignatureAlgorithm {
	switch key.(type) {
	case *rsa.PrivateKey:
		return []x509.SignatureAlgorithm{
			x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA, x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS,
		}
	case *ecdsa.PrivateKey:
		return []x509.SignatureAlgorithm{x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512}
	default:
		return []x509.SignatureAlgorithm{x509.PureEd25519}
	}
}

// sign signs the to-be-signed part of a certificate.
func sign(key crypto.Signer, algorithm x509.SignatureAlgorithm, content []byte) ([]byte, error) {
	if key, is := key.(ed25519.PrivateKey); is {
		return ed25519.Sign(key, content), nil
	}
	hash := crypto.SHA256
	var options crypto.SignerOpts
	switch algorithm {
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		hash = crypto.SHA384
	case x509.SHA512WithRSA, x509.ECDSAWithSHA512:
		hash = crypto.SHA512
	case x509.SHA1WithRSA, x509.ECDSAWithSHA1:
		hash = crypto.SHA1
	}
	options = hash
	if algorithm == x509.SHA256WithRSAPSS || algorithm == x509.SHA384WithRSAPSS {
		options = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
	}
	digest := hash.New()
	digest.Write(content)
	return key.Sign(rand.Reader, digest.Sum(nil), options)
}
