// Program go-readers says what Go's own readers make of Docker configurations, certificates and bundles: those of the kubelet, of
// Docker's command line, and of Go's TLS clients.
//
//	go-readers docker                     cases, a line of JSON each, on standard input; an answer each on standard output
//	go-readers certificates SEED COUNT    makes COUNT chains of certificates, and judges each: a line of JSON each
//	go-readers bundles SEED COUNT         makes COUNT bundles of authorities, and reads each: a line of JSON each
//
// The same seed makes the same cases, but for the keys, serial numbers and signatures in them.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	output := bufio.NewWriter(os.Stdout)
	answers := json.NewEncoder(output)
	if err := answer(arguments, answers); err != nil {
		return err
	}
	return output.Flush()
}

func answer(arguments []string, answers *json.Encoder) error {
	switch {
	case len(arguments) == 1 && arguments[0] == "docker":
		return readDockerConfigs(answers)
	case len(arguments) == 3:
		seed, err := strconv.ParseUint(arguments[1], 10, 64)
		if err != nil {
			return err
		}
		count, err := strconv.Atoi(arguments[2])
		if err != nil {
			return err
		}
		chance := rand.New(rand.NewPCG(seed, 0))
		switch arguments[0] {
		case "certificates":
			return judgeCertificates(chance, count, answers)
		case "bundles":
			return readBundles(chance, count, answers)
		}
	}
	return errors.New("usage: go-readers docker | go-readers certificates SEED COUNT | go-readers bundles SEED COUNT")
}
