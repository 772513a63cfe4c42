package main

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
)

// bundleChange changes a bundle's text as a whole or one of its blocks.
type bundleChange struct {
	name  string
	apply func(chance *rand.Rand, blocks []string) []string
}

// onOne changes one block.
func onOne(change func(chance *rand.Rand, block string) string) func(*rand.Rand, []string) []string {
	return func(chance *rand.Rand, blocks []string) []string {
		if len(blocks) > 0 {
			at := chance.IntN(len(blocks))
			blocks[at] = change(chance, blocks[at])
		}
		return blocks
	}
}

func onAll(change func(block string) string) func(*rand.Rand, []string) []string {
	return func(_ *rand.Rand, blocks []string) []string {
		for position, block := range blocks {
			blocks[position] = change(block)
		}
		return blocks
	}
}

func replaced(old, text string) func(*rand.Rand, []string) []string {
	return onOne(func(_ *rand.Rand, block string) string { return strings.Replace(block, old, text, 1) })
}

const (
	begin = "-----BEGIN CERTIFICATE-----\n"
	end   = "-----END CERTIFICATE-----\n"
)

func block(label, content string) string {
	return "-----BEGIN " + label + "-----\n" + content + "\n-----END " + label + "-----\n"
}

func inserted(text string) func(*rand.Rand, []string) []string {
	return func(chance *rand.Rand, blocks []string) []string {
		at := chance.IntN(len(blocks) + 1)
		return append(append(append([]string{}, blocks[:at]...), text), blocks[at:]...)
	}
}

var bundleChanges = []bundleChange{
	{"text between", inserted("# the company's authority\n")},
	{"text as OpenSSL writes it", inserted("Certificate:\n    Data:\n        Version: 3 (0x2)\n")},
	{"text with dashes", inserted("----- not a certificate -----\n")},
	{"empty lines", inserted("\n\n\n")},
	{"lines end in CRLF", onAll(func(block string) string { return strings.ReplaceAll(block, "\n", "\r\n") })},
	{"lines end in CR", onAll(func(block string) string { return strings.ReplaceAll(block, "\n", "\r") })},
	{"spaces at the end of lines", onAll(func(block string) string { return strings.ReplaceAll(block, "\n", "  \n") })},
	{"spaces at the start of lines", onAll(func(block string) string {
		return "    " + strings.TrimSuffix(strings.ReplaceAll(block, "\n", "\n    "), "    ")
	})},
	{"spaces before the beginning", onOne(func(_ *rand.Rand, block string) string { return "  " + block })},
	{"text before the beginning", onOne(func(_ *rand.Rand, block string) string { return "x" + block })},
	{"no line break at the end", onOne(func(_ *rand.Rand, block string) string { return strings.TrimSuffix(block, "\n") })},
	{"all in one line", onOne(func(_ *rand.Rand, block string) string { return oneLine(block) })},
	{"the base64 in one line", onOne(func(_ *rand.Rand, block string) string {
		return begin + oneLine(strings.TrimSuffix(strings.TrimPrefix(block, begin), end)) + "\n" + end
	})},
	{"breaks off", onOne(func(chance *rand.Rand, block string) string {
		return block[:len(begin)+chance.IntN(len(block)-len(begin))]
	})},
	{"without an end", replaced(end, "")},
	{"without a beginning", replaced(begin, "")},
	{"beginning twice", replaced(begin, begin+begin)},
	{"other label at the end", replaced("END CERTIFICATE", "END X509 CERTIFICATE")},
	{"label of old programs", onOne(func(_ *rand.Rand, block string) string {
		return strings.ReplaceAll(block, " CERTIFICATE-", " X509 CERTIFICATE-")
	})},
	{"label of OpenSSL's trusted certificates", onOne(func(_ *rand.Rand, block string) string {
		return strings.ReplaceAll(block, " CERTIFICATE-", " TRUSTED CERTIFICATE-")
	})},
	{"label in lower case", onOne(func(_ *rand.Rand, block string) string {
		return strings.ReplaceAll(block, "CERTIFICATE", "certificate")
	})},
	{"other block", inserted(block("X509 CRL", "MAUCAQU="))},
	{"block of parameters", inserted(block("DH PARAMETERS", "MAYCAQUCAQI="))},
	{"public key", inserted(block("PUBLIC KEY", "MAUCAQU="))},
	{"private key", inserted(block("PRIVATE KEY", "MAUCAQU="))},
	{"certificate request", inserted(block("CERTIFICATE REQUEST", "MAUCAQU="))},
	{"other block that breaks off", inserted("-----BEGIN X509 CRL-----\nMAUC\n")},
	{"no certificate in the block", inserted(block("CERTIFICATE", "MAUCAQU="))},
	{"nothing in the block", inserted(begin + end)},
	{"headers", replaced(begin, begin+"Proc-Type: 4,CLEAR\n\n")},
	{"name of a friend before it", inserted("Bag Attributes\n    friendlyName: company\nsubject=CN = authority\n")},
	{"base64 with a comment", replaced("\n", "\n# comment\n")},
	{"base64 without padding", onOne(func(_ *rand.Rand, block string) string { return strings.ReplaceAll(block, "=", "") })},
	{"base64 of URLs", onOne(func(_ *rand.Rand, block string) string {
		inner := strings.TrimSuffix(strings.TrimPrefix(block, begin), end)
		return begin + strings.NewReplacer("+", "-", "/", "_").Replace(inner) + end
	})},
	{"bytes behind the certificate", onOne(func(_ *rand.Rand, block string) string {
		inner := oneLine(strings.TrimSuffix(strings.TrimPrefix(block, begin), end))
		der, err := base64.StdEncoding.DecodeString(inner)
		if err != nil {
			return block
		}
		return begin + base64.StdEncoding.EncodeToString(append(der, 0, 0)) + "\n" + end
	})},
	{"twice", func(_ *rand.Rand, blocks []string) []string { return append(blocks, blocks...) }},
	{"very many", func(_ *rand.Rand, blocks []string) []string {
		all := blocks
		for range 60 {
			all = append(all, blocks...)
		}
		return all
	}},
	{"byte order mark", func(_ *rand.Rand, blocks []string) []string { return append([]string{"\xef\xbb\xbf"}, blocks...) }},
	{"UTF-16", func(_ *rand.Rand, blocks []string) []string {
		var wide strings.Builder
		for _, character := range strings.Join(blocks, "") {
			fmt.Fprintf(&wide, "%c\x00", character)
		}
		return []string{"\xff\xfe" + wide.String()}
	}},
	{"empty", func(*rand.Rand, []string) []string { return nil }},
	{"bytes that are no text", inserted("\x00\xff\xfe\n")},
	{"DER", func(_ *rand.Rand, blocks []string) []string {
		if len(blocks) == 0 {
			return blocks
		}
		der, _ := base64.StdEncoding.DecodeString(oneLine(strings.TrimSuffix(strings.TrimPrefix(blocks[0], begin), end)))
		return []string{string(der)}
	}},
}

func oneLine(text string) string {
	return strings.NewReplacer("\n", "", "\r", "").Replace(text)
}

func makeBundle(chance *rand.Rand, authorities [][]byte) bundleCase {
	var blocks []string
	for range 1 + chance.IntN(4) {
		blocks = append(blocks, inPEM(pick(chance, authorities)))
	}
	var made bundleCase
	for range pick(chance, []int{0, 1, 1, 1, 2, 2, 3}) {
		change := pick(chance, bundleChanges)
		made.What = append(made.What, change.name)
		blocks = change.apply(chance, blocks)
	}
	made.Text = []byte(strings.Join(blocks, ""))
	return made
}
