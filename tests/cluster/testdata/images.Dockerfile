# What clusters of the tests run besides Weir; each a target.
FROM scratch AS pause
COPY pause /pause
USER 65535:65535
ENTRYPOINT ["/pause"]

FROM scratch AS nats
COPY nats-server /nats-server
ENTRYPOINT ["/nats-server"]

# Stands in for the image of that name: its own program, from PyPI.
FROM debian:bookworm-slim AS envoy
COPY envoy /usr/local/bin/envoy
ENTRYPOINT ["envoy"]

FROM debian:bookworm-slim AS tools
RUN apt-get update && apt-get install -y --no-install-recommends curl iproute2 && rm -rf /var/lib/apt/lists/* /var/cache/*

FROM weir AS backend
COPY tests /tests
ENV PYTHONPATH=/weir:/
ENTRYPOINT ["python", "-m", "tests.cluster.echo"]
