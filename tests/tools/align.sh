#!/usr/bin/env bash
# Sets modules that several tools need to the same version in each go.mod, the newest that any of them requires, so that Go compiles
# them only once. Run it after you update a tool. Modules that must be those of the Kubernetes release are pinned by `replace`, and don't
# change.
set -euo pipefail
cd "$(dirname "$0")"

# Tools with their own versions: another Kubernetes, plugins without shared modules, and a server that only `make test-servers` builds.
apart=' kube-apiserver-1.30 cni-plugins gitea '

tools=()
for pins in */go.mod; do
  [[ $apart == *" ${pins%/go.mod} "* ]] || tools+=("${pins%/go.mod}")
done

trap 'rm -f go.work go.work.sum' EXIT
rm -f go.work go.work.sum
go work init "${tools[@]/#/./}"
versions=$(go list -m -f '{{with .Version}}{{$.Path}} {{.}}{{end}}' all)
rm -f go.work go.work.sum

for tool in "${tools[@]}"; do
  (
    cd "$tool"
    known=$(go mod edit -json | sed -n '/"Require"/,/^\t]/s/.*"Path": "\(.*\)",/\1/p')
    # shellcheck disable=SC2046 # one word per requirement
    go mod edit $(awk 'NR == FNR { known[$1]; next } $1 in known { print "-require=" $1 "@" $2 }' \
      <(printf '%s\n' "$known") <(printf '%s\n' "$versions"))
    go mod tidy
  )
done
