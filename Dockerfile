# The same files as in the image of `make image`, for who has an engine that builds Dockerfiles (BuildKit, buildah, podman): the
# program, the public roots and the licence on nothing. docs/image.md says what differs.
#
#     docker build --tag registry-operator .

# Runs on the machine that builds, whatever the image is for: zig links for both.
FROM --platform=$BUILDPLATFORM rust:1.95.0-bookworm AS build
# Without a default: one would win over the engine's own word.
ARG TARGETARCH
# zig comes as a Python package.
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
