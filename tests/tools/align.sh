#!/usr/bin/env bash
# Gives what the tools share the same version in each go.mod, the newest that one of them asks for, so that Go compiles it once
# for all. To be run after a tool has been moved. What has to be the very code that Kubernetes' release has is pinned by a
# `replace` in each, and stays.
set -euo pipefail
cd "$(dirname "$0")"

# On their own: another Kubernetes, programs that share nothing, and one that only `make test-servers` builds.
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
    # shellcheck disable=SC2046 # one word for each requirement
    go mod edit $(awk 'NR == FNR { known[$1]; next } $1 in known { print "-require=" $1 "@" $2 }' \
      <(printf '%s\n' "$known") <(printf '%s\n' "$versions"))
    go mod tidy
  )
done
