// Program argo-health says what Argo CD makes of objects and manifests, by Argo CD's own code.
//
//	argo-health health [CONFIGMAP]   objects, a line of JSON each, on standard input; a line each on standard output.
//	                                 CONFIGMAP: a file with argocd-cm, for its health scripts
//	argo-health check FILE...        Applications and ConfigMaps, read strictly: an unknown field is an error
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/argoproj/argo-cd/gitops-engine/pkg/health"
	argo "github.com/argoproj/argo-cd/v3/pkg/apis/application/v1alpha1"
	"github.com/argoproj/argo-cd/v3/util/lua"
	core "k8s.io/api/core/v1"
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
		return judge(lua.ResourceHealthOverrides{})
	case len(arguments) == 2 && arguments[0] == "health":
		overrides, err := scripts(arguments[1])
		if err != nil {
			return err
		}
		return judge(overrides)
	case len(arguments) > 1 && arguments[0] == "check":
		return check(arguments[1:])
	default:
		return errors.New("usage: argo-health health [CONFIGMAP] | argo-health check FILE...")
	}
}

const healthKey = "resource.customizations.health."

// scripts are the health scripts of argocd-cm, by group and kind.
func scripts(file string) (lua.ResourceHealthOverrides, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var config core.ConfigMap
	if err := yaml.UnmarshalStrict(text, &config); err != nil {
		return nil, err
	}
	overrides := lua.ResourceHealthOverrides{}
	for key, script := range config.Data {
		group, kind, found := strings.Cut(strings.TrimPrefix(key, healthKey), "_")
		if strings.HasPrefix(key, healthKey) && found {
			overrides[group+"/"+kind] = argo.ResourceOverride{HealthLua: script}
		}
	}
	return overrides, nil
}

func judge(overrides lua.ResourceHealthOverrides) error {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(lines.Bytes()); err != nil {
			return err
		}
		found, err := health.GetResourceHealth(object, overrides)
		if err != nil {
			return err
		}
		// No rule: Argo CD shows no health, and takes the object for healthy.
		answer := map[string]string{"status": "", "message": ""}
		if found != nil {
			answer = map[string]string{"status": string(found.Status), "message": found.Message}
		}
		if err := json.NewEncoder(os.Stdout).Encode(answer); err != nil {
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
	fmt.Println(meta.Kind)
	switch meta.APIVersion + "/" + meta.Kind {
	case "argoproj.io/v1alpha1/Application":
		return yaml.UnmarshalStrict(document, &argo.Application{})
	case "v1/ConfigMap":
		return yaml.UnmarshalStrict(document, &core.ConfigMap{})
	default:
		return fmt.Errorf("%s of %s is not expected here", meta.Kind, meta.APIVersion)
	}
}
