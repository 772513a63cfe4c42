# Builds images with the same files as `make image`, with a container engine (BuildKit, buildah, podman): the program, the public
# roots and the license. docs/image.md describes the differences.
#
#     docker build --tag registry-operator .
#     docker build --tag registry-console --target registry-console .

# Runs on the build machine's platform. zig links for both platforms.
FROM --platform=$BUILDPLATFORM rust:1.95.0-bookworm AS source
# zig is installed as a Python package.
RUN apt-get update && apt-get install --yes --no-install-recommends python3-venv && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .

FROM source AS build-console
# No default, because it would override the engine's value.
ARG TARGETARCH
RUN cargo run --package registry-testbed --bin testbed -- image --program registry-console --architecture "$TARGETARCH" --root /image

FROM scratch AS registry-console
COPY --from=build-console /image/ /
USER 65532:65532
EXPOSE 8080 8443
ENTRYPOINT ["/registry-console"]
LABEL org.opencontainers.image.title="registry-console" \
      org.opencontainers.image.description="The web console of registry-operator: adds, validates, lists, edits and deletes OCI registries." \
      org.opencontainers.image.licenses="Apache-2.0"

FROM source AS build
ARG TARGETARCH
RUN cargo run --package registry-testbed --bin testbed -- image --program registry-operator --architecture "$TARGETARCH" --root /image

# The last stage is the default.
FROM scratch
COPY --from=build /image/ /
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/registry-operator"]
LABEL org.opencontainers.image.title="registry-operator" \
      org.opencontainers.image.description="Validates OCI registries and their credentials, and reports in the status whether they can be used." \
      org.opencontainers.image.licenses="Apache-2.0"
