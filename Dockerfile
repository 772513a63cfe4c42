# The same image as `make image` writes, for who has an engine: the program, the public roots and the licence on nothing.
#
#     docker build --tag registry-operator .

FROM rust:1.95-bookworm AS build
ARG TARGETARCH=amd64
# zig, which links the static program, comes as a Python package.
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
      org.opencontainers.image.description="Declares OCI registries to a management plane on Kubernetes, and says truly whether they can be used." \
      org.opencontainers.image.licenses="Apache-2.0"
