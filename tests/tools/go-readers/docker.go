package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/credentials"
	"github.com/docker/cli/cli/config/types"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/credentialprovider"
)

// dockerCase is a Docker configuration, and what is to be pulled with it.
type dockerCase struct {
	// Config is the content of a Secret's .dockerconfigjson.
	Config []byte `json:"config"`
	// Image is a reference as a Pod has it, without a tag.
	Image string `json:"image"`
	// Host is the domain of the reference, as Docker's command line asks for it.
	Host string `json:"host"`
}

// login is what a client would send. Texts are bytes: Go's strings need not be UTF-8.
type login struct {
	Username      []byte `json:"username"`
	Password      []byte `json:"password"`
	IdentityToken []byte `json:"identityToken,omitempty"`
	RegistryToken []byte `json:"registryToken,omitempty"`
}

type kubeletAnswer struct {
	// Readable says that the configuration could be read.
	Readable bool `json:"readable"`
	// Firsts are the logins that may be tried first: of keys that come to the same, any, for Go's maps have no order.
	Firsts []login `json:"firsts"`
	// FirstsThatSay leave out the entries that are empty for the kubelet, with which a pull is anonymous.
	FirstsThatSay []login `json:"firstsThatSay"`
}

type dockerAnswer struct {
	Readable bool `json:"readable"`
	// Helper says that a program is asked instead.
	Helper bool `json:"helper"`
	// Logins are those that may be used: of keys that come to the same, any.
	Logins []login `json:"logins"`
}

type dockerAnswers struct {
	Kubelet kubeletAnswer `json:"kubelet"`
	Docker  dockerAnswer  `json:"docker"`
}

func readDockerConfigs(answers *json.Encoder) error {
	// The kubelet logs each key that it passes over.
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var asked dockerCase
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			return err
		}
		docker, err := askDocker(asked)
		if err != nil {
			return err
		}
		if err := answers.Encode(dockerAnswers{askKubelet(asked), docker}); err != nil {
			return err
		}
	}
	return lines.Err()
}

// askKubelet does what the kubelet does with a pull secret (credentialprovider/secrets.MakeDockerKeyring), in every order that a
// map may be walked in.
func askKubelet(asked dockerCase) kubeletAnswer {
	var config credentialprovider.DockerConfigJSON
	if err := json.Unmarshal(asked.Config, &config); err != nil {
		return kubeletAnswer{}
	}
	answer := kubeletAnswer{Readable: true}
	keys := slices.Sorted(maps.Keys(config.Auths))
	for first := range keys {
		ring := &credentialprovider.BasicDockerKeyring{}
		for _, key := range append(keys[first:len(keys):len(keys)], keys[:first]...) {
			ring.Add(nil, credentialprovider.DockerConfig{key: config.Auths[key]})
		}
		found, _ := ring.Lookup(asked.Image)
		for position, entry := range found {
			says := entry.Username != "" || entry.Password != ""
			tried := login{Username: []byte(entry.Username), Password: []byte(entry.Password)}
			if position == 0 {
				answer.Firsts = added(answer.Firsts, tried)
			}
			if says {
				answer.FirstsThatSay = added(answer.FirstsThatSay, tried)
				break
			}
		}
	}
	return answer
}

// askDocker does what `docker pull` does (ConfigFile.GetAuthConfig), but that no helper is run.
func askDocker(asked dockerCase) (dockerAnswer, error) {
	config := configfile.New("")
	if err := config.LoadFromReader(bytes.NewReader(asked.Config)); err != nil {
		return dockerAnswer{}, nil
	}
	answer := dockerAnswer{Readable: true}
	key := asked.Host
	if key == "docker.io" || key == "index.docker.io" {
		key = "https://index.docker.io/v1/"
	}
	if config.CredentialHelpers[key] != "" || config.CredentialsStore != "" {
		answer.Helper = true
		return answer, nil
	}
	whole := config.AuthConfigs
	candidates := slices.Sorted(maps.Keys(whole))
	if _, exists := whole[key]; exists {
		candidates = []string{key}
	}
	for _, candidate := range candidates {
		config.AuthConfigs = map[string]types.AuthConfig{candidate: whole[candidate]}
		found, err := credentials.NewFileStore(config).Get(key)
		if err != nil {
			return dockerAnswer{}, err
		}
		if found.ServerAddress != "" || candidate == "" && found != (types.AuthConfig{}) {
			answer.Logins = added(answer.Logins, login{
				[]byte(found.Username), []byte(found.Password), []byte(found.IdentityToken), []byte(found.RegistryToken),
			})
		}
	}
	return answer, nil
}

func added(logins []login, one login) []login {
	same := func(other login) bool {
		return bytes.Equal(one.Username, other.Username) && bytes.Equal(one.Password, other.Password) &&
			bytes.Equal(one.IdentityToken, other.IdentityToken) && bytes.Equal(one.RegistryToken, other.RegistryToken)
	}
	if slices.ContainsFunc(logins, same) {
		return logins
	}
	return append(logins, one)
}
