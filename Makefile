# `make` lists the targets. You need Rust, Go, make, git and a C compiler. Everything else is downloaded, or built in target/, at a
# pinned version.

.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

# The development build. `cargo run` rebuilds only what has changed. Without `--package`, so that all commands need the same features of
# dependencies, and build each once.
operator := cargo run --quiet --bin registry-operator --
testbed := cargo run --quiet --bin testbed --
docgen := cargo run --quiet --bin registry-docgen --
helm := target/tools/bin/helm
chart := charts/registry-operator

# The version of everything that is released, from Cargo.toml.
version := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

cargo_cyclonedx_version := 0.5.9
cargo_cyclonedx := target/tools/cargo-cyclonedx-$(cargo_cyclonedx_version)/bin/cargo-cyclonedx

cargo_deny_version := 0.20.2
cargo_deny := target/tools/cargo-deny-$(cargo_deny_version)/bin/cargo-deny

.PHONY: help
help: ## print this list
	@sed -n 's/^\([a-z-]*\):.*## /\1: /p' $(MAKEFILE_LIST) | while IFS=: read -r target text; do \
		printf '  make %-18s%s\n' "$$target" "$$text"; done

.PHONY: build
build: ## build the operator, the kubectl plugin and the console, optimized: target/release/{registry-operator,kubectl-registry,registry-console,kubectl-registry-console}
	cargo build --release --package registry-operator --package kubectl-registry --package registry-console

.PHONY: tools
tools: ## build the control plane (newest and oldest), helm, kubectl, crane, a registry and checkers into target/tools/bin
	$(testbed) tools

.PHONY: man
man: ## write the kubectl plugin's manual pages to target/man
	mkdir -p target/man
	cargo run --quiet --bin kubectl-registry -- man >target/man/kubectl-registry.1
	for command in list validate describe completion; do \
		cargo run --quiet --bin kubectl-registry -- man $$command >target/man/kubectl-registry-$$command.1; done

# The testbed reads ONCE, EXISTING and KUBECONFIG from the environment.
.PHONY: run
run: build ## try it: control plane, registries, operator, web console, samples, results (ONCE=1: then exit; EXISTING=1: in your cluster)
	$(testbed) run

.PHONY: check
check: ## for the inner loop: formatting, lints, unit tests; starts no servers
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo test --workspace --lib --bins

.PHONY: test
test: tools test-chart ## everything: unit tests, system tests on a real control plane, the chart
	cargo test --test system -- --ignored fairness::
	cargo test --workspace --no-fail-fast
	cargo test --package registry-operator --package registry-verdict --lib --no-default-features $(unoptimized)
	cargo test --test probe -- --ignored differential::

# Compiles faster, for tests that take seconds.
unoptimized := $(foreach package,operator verdict,--config profile.dev.package.registry-$(package).opt-level=0)

.PHONY: simulate
simulate: ## let HISTORIES=10000 histories with faults happen to the operator, in one process, from SEED=0
	HISTORIES=$(or $(HISTORIES),10000) SEED=$(or $(SEED),0) cargo test --test histories -- --nocapture

.PHONY: console-pictures
console-pictures: ## write the pictures of the web console in docs/images/console (needs Chromium; look at each of them)
	cargo test --test console -- --ignored --exact browser::states::pictures

.PHONY: test-servers
test-servers: ## validate registry servers that take minutes to build (Gitea; needs a C compiler); the others are in `make test`
	$(testbed) tools gitea
	cargo test --test servers -- --ignored
	cargo test --test verdicts -- --ignored

.PHONY: test-chart
test-chart: helm ## fast checks of the chart: lint, and render with all values; `cargo test --test chart` has the rest
	for values in $(chart)/values.yaml $(chart)/ci/*-values.yaml; do \
		$(helm) lint --strict --quiet $(chart) --values $$values; \
		$(helm) template registry-operator $(chart) --namespace registry-system --values $$values >/dev/null; done

# ARCHITECTURE=amd64 or ARCHITECTURE=arm64 builds one platform, in half of the time.
architectures := $(or $(ARCHITECTURE),amd64 arm64)
sboms := $(architectures:%=target/image/sbom-%.cdx.json)

# One bill of materials for each platform, because their dependencies differ.
.PHONY: image
image: $(cargo_cyclonedx) ## the container images for amd64 and arm64 (or ARCHITECTURE=), without an engine: target/image, with SBOMs
	rm -rf target/image
	$(testbed) image $(architectures:%=--architecture %)
	$(MAKE) --no-print-directory $(sboms)

target/image/sbom-amd64.cdx.json: triple := x86_64-unknown-linux-musl
target/image/sbom-arm64.cdx.json: triple := aarch64-unknown-linux-musl
# cargo-cyclonedx writes one file for each package, next to its Cargo.toml; two of them have an image. Its time is the commit's time,
# and its source path is the one in the program.
target/image/sbom-%.cdx.json target/image/sbom-console-%.cdx.json: Cargo.lock $(cargo_cyclonedx)
	SOURCE_DATE_EPOCH="$$(git log -1 --format=%ct 2>/dev/null || echo 0)" \
		$(cargo_cyclonedx) cyclonedx --format json --target $(triple) --override-filename .sbom-$* --quiet
	mkdir -p $(@D)
	sed 's|file://$(CURDIR)|file:///src|g' .sbom-$*.json >target/image/sbom-$*.cdx.json
	sed 's|file://$(CURDIR)|file:///src|g' crates/registry-console/.sbom-$*.json >target/image/sbom-console-$*.cdx.json
	find . -name .sbom-$*.json -not -path './target/*' -delete

.PHONY: bench
bench: build ## measure the operator's latency, throughput, memory and writes against two baselines, and the console's limits
	cargo bench --package registry-operator
	cargo test --test console limits:: -- --ignored --nocapture --test-threads=1
	cargo test --test console browser::bars:: -- --ignored --nocapture --test-threads=1

# All generated files. They are written to $(stage), and then copied to their place or compared with the files there.
made := crds $(chart)/files/crds $(chart)/Chart.yaml $(chart)/values.yaml $(chart)/README.md config/install.yaml \
	config/gitops/base/install.yaml tests/chart/golden docs/reference.md docs/messages.md
stage := target/generated

# Helm renders kinds that it doesn't know last. This moves the policies to the front, so that they exist before the objects that they
# protect.
policies_first := awk '/^---/ { last++ } { text[last] = text[last] $$0 "\n" } \
	/^kind: ValidatingAdmissionPolicy/ { first[last] = 1 } \
	END { for (i = 0; i <= last; i++) if (i in first) printf "%s", text[i]; \
		for (i = 0; i <= last; i++) if (!(i in first)) printf "%s", text[i] }'

.PHONY: stage
stage: helm
	rm -rf $(stage)
	mkdir -p $(stage)/crds $(stage)/config/gitops/base $(stage)/charts $(stage)/docs $(stage)/tests/chart/golden
	$(operator) crds | awk -v dir=$(stage)/crds \
		'/^---/ { file = head = ""; next } \
		 file { print >file; next } \
		 { head = head $$0 "\n" } \
		 $$1 == "name:" { split($$2, name, "."); file = dir "/" name[1] ".yaml"; printf "%s", head >file }'
	cp -R $(chart) $(stage)/charts/
	rm -rf $(stage)/$(chart)/files/crds
	mkdir -p $(stage)/$(chart)/files
	cp -R $(stage)/crds $(stage)/$(chart)/files/crds
	sed -E 's/^(version|appVersion): .*/\1: $(version)/' $(chart)/Chart.yaml >$(stage)/$(chart)/Chart.yaml
	$(docgen) values $(chart)/values.schema.json >$(stage)/$(chart)/values.yaml
	$(docgen) readme $(chart)/values.schema.json $(chart)/README.md >$(stage)/$(chart)/README.md
	$(docgen) reference >$(stage)/docs/reference.md
	echo '# Rendered from charts/registry-operator by `make generate`; edit there.' >$(stage)/config/install.yaml
	$(helm) template registry-operator $(stage)/$(chart) --namespace registry-system --set namespace.create=true \
		--skip-tests | $(policies_first) >>$(stage)/config/install.yaml
	# The console has a policy more.
	$(helm) template registry-operator $(stage)/$(chart) --namespace registry-system \
		--values $(chart)/ci/minimal-values.yaml >$(stage)/with-console.yaml
	$(docgen) messages $(stage)/with-console.yaml >$(stage)/docs/messages.md
	# kustomize reads no files outside its directory.
	cp $(stage)/config/install.yaml $(stage)/config/gitops/base/install.yaml
	for golden in all minimal; do \
		$(helm) template registry-operator $(stage)/$(chart) --namespace registry-system \
			--values $(chart)/ci/$$golden-values.yaml >$(stage)/tests/chart/golden/$$golden.yaml; done

.PHONY: generate
generate: stage ## write the generated files: CRDs, the chart's values and README, install.yaml, docs/reference.md, docs/messages.md
	rm -rf $(made)
	for path in $(made); do cp -R $(stage)/$$path $$path; done

.PHONY: verify-generated
verify-generated: stage ## fail if the generated files are not up to date
	@for path in $(made); do \
		diff -ru $$path $(stage)/$$path >&2 || { echo "$$path is not up to date; run make generate" >&2; exit 1; }; done

.PHONY: licences
licences: $(cargo_deny) ## check the dependencies' licenses, sources and bans (deny.toml)
	$(cargo_deny) --workspace check --hide-inclusion-graph licenses bans sources

.PHONY: advisories
advisories: $(cargo_deny) ## check the dependencies against the RustSec database, which needs the network
	$(cargo_deny) --workspace check --hide-inclusion-graph advisories

.PHONY: helm
helm:
	$(testbed) tools helm

# Built without optimization and debug information, which takes half the time. They have little to do.
cargo_install := CARGO_PROFILE_DEV_DEBUG=0 cargo install --locked --debug

$(cargo_cyclonedx):
	$(cargo_install) --root target/tools/cargo-cyclonedx-$(cargo_cyclonedx_version) cargo-cyclonedx@$(cargo_cyclonedx_version)

$(cargo_deny):
	$(cargo_install) --root target/tools/cargo-deny-$(cargo_deny_version) cargo-deny@$(cargo_deny_version)
