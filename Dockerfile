# Builds an image with the same files as `make image`, with a container engine (BuildKit, buildah, podman): the program, the public
# roots and the license. docs/image.md describes the differences.
#
#     docker build --tag registry-operator .

# Runs on the build machine's platform. zig links for both platforms.
FROM --platform=$BUILDPLATFORM rust:1.95.0-bookworm AS build
# No default, because it would override the engine's value.
ARG TARGETARCH
# zig is installed as a Python package.
RUN apt-get update && apt-get install --yes --no-install-recommends python3-venv && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo run --package registry-testbed --bin testbed -- image --architecture "$TARGETARCH" --root /image

FROM scratch
COPY --from=build /image/ /
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/registry-operator"]
LABEL org.opencontainers.image.title="registry-operator" \
      org.opencontainers.image.description="Validates OCI registries and their credentials, and reports in the status whether they can be used." \
      org.opencontainers.image.licenses="Apache-2.0"
