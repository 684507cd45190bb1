# What clusters of the tests run besides Weir; each a target.
FROM scratch AS pause
COPY pause /pause
USER 65535:65535
ENTRYPOINT ["/pause"]

FROM scratch AS nats
COPY nats-server /nats-server
ENTRYPOINT ["/nats-server"]

FROM debian:bookworm-slim AS tools
RUN apt-get update && apt-get install -y --no-install-recommends curl iproute2 && rm -rf /var/lib/apt/lists/* /var/cache/*

FROM weir AS backend
COPY tests /tests
ENV PYTHONPATH=/weir:/
ENTRYPOINT ["python", "-m", "tests.cluster.echo"]
