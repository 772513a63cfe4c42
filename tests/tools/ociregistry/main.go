// Program ociregistry is CUE's OCI registry (ociserver), which comes as a library: its storage in memory, open to everybody, but
// for the repositories that are named on the command line. Those can be pushed to and not read.
package main

import (
	"flag"
	"log"
	"net/http"
	"slices"

	"cuelabs.dev/go/oci/ociregistry"
	"cuelabs.dev/go/oci/ociregistry/ocifilter"
	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"
)

func main() {
	address := flag.String("address", "127.0.0.1:5000", "where to listen")
	flag.Parse()
	unreadable := flag.Args()
	allow := func(repository string, access ocifilter.AccessKind) error {
		if access != ocifilter.AccessWrite && slices.Contains(unreadable, repository) {
			return ociregistry.ErrDenied
		}
		return nil
	}
	registry := ociserver.New(ocifilter.AccessChecker(ocimem.New(), allow), nil)
	log.Fatal(http.ListenAndServe(*address, registry))
}
