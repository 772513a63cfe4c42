// Program flux-health says what Flux makes of objects and manifests, by Flux's own libraries.
//
//	flux-health health         objects, a line of JSON each, on standard input; a line each on standard output
//	flux-health check FILE...  manifests of Flux's kinds, read strictly: an unknown field is an error
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	helm "github.com/fluxcd/helm-controller/api/v2"
	kustomize "github.com/fluxcd/kustomize-controller/api/v1"
	source "github.com/fluxcd/source-controller/api/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	switch {
	case len(arguments) == 1 && arguments[0] == "health":
		return health(os.Stdin, os.Stdout)
	case len(arguments) > 1 && arguments[0] == "check":
		return check(arguments[1:])
	default:
		return errors.New("usage: flux-health health | flux-health check FILE...")
	}
}

func health(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(lines.Bytes()); err != nil {
			return err
		}
		result, err := status.Compute(object)
		if err != nil {
			return err
		}
		answer := map[string]string{"status": result.Status.String(), "message": result.Message}
		if err := json.NewEncoder(out).Encode(answer); err != nil {
			return err
		}
	}
	return lines.Err()
}

func check(files []string) error {
	for _, name := range files {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		defer file.Close()
		documents := utilyaml.NewYAMLReader(bufio.NewReader(file))
		for {
			document, err := documents.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err == nil {
				err = read(document)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

func read(document []byte) error {
	var meta struct{ APIVersion, Kind string }
	if err := yaml.Unmarshal(document, &meta); err != nil {
		return err
	}
	if strings.TrimSpace(meta.Kind) == "" {
		return nil
	}
	kinds := map[string]any{
		helm.GroupVersion.String() + "/HelmRelease":        &helm.HelmRelease{},
		kustomize.GroupVersion.String() + "/Kustomization": &kustomize.Kustomization{},
		source.GroupVersion.String() + "/GitRepository":    &source.GitRepository{},
		source.GroupVersion.String() + "/OCIRepository":    &source.OCIRepository{},
		source.GroupVersion.String() + "/HelmRepository":   &source.HelmRepository{},
	}
	into, known := kinds[meta.APIVersion+"/"+meta.Kind]
	if !known {
		return fmt.Errorf("%s of %s is no kind of Flux's", meta.Kind, meta.APIVersion)
	}
	fmt.Println(meta.Kind)
	return yaml.UnmarshalStrict(document, into)
}
