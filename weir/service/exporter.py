"""Serve metrics over HTTP, for Prometheus to scrape: values are read in the loop, and rendered in a thread."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

import structlog

from weir.decider import World
from weir.service.http import HEAD_BYTES, Connections
from weir.service.metrics import BY_NAME, SECONDS, Histogram, Sample
from weir.service.process import Edge
from weir.service.runner import Runner

RETRY_S = 5.0
log = structlog.get_logger()
_TAKEN_S = 30.0
_EMPTY = b"HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
Source = Callable[[Runner], Awaitable[Iterable[Sample]]]


def of_world(samples: Callable[[World], Iterable[Sample]]) -> Source:
    """Return a source of samples that reads the runner's world."""

    async def source(runner: Runner) -> list[Sample]:
        return list(samples(runner.world))

    return source


def exposed(address: tuple[str, int] | None, *sources: Source) -> tuple[Edge, ...]:
    """Return the edge that serves samples of the runner and of `sources` at `address`; none without an address."""
    if not address:
        return ()

    async def serve(runner: Runner) -> None:
        connections = Connections(taken_s=_TAKEN_S)

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await connections.serve(reader, writer, lambda head: _answer(head, runner, sources))

        while True:
            try:
                async with await asyncio.start_server(answer, *address, limit=HEAD_BYTES) as server:
                    await server.serve_forever()
            except OSError as error:  # who serves nothing to Prometheus still serves
                log.error("metrics_not_served", address=address, reason=str(error))
            await asyncio.sleep(RETRY_S)

    return (serve,)


async def _answer(head: bytes, runner: Runner, sources: Sequence[Source]) -> bytes:
    method, _, rest = head.partition(b" ")
    path = rest.split(b" ")[0].partition(b"?")[0] if method == b"GET" else b""
    if path == b"/healthz" or (path == b"/readyz" and runner.ready):  # answering is being alive
        return _EMPTY % b"200 OK"
    if path not in (b"/", b"/metrics"):
        return _EMPTY % (b"503 Service Unavailable" if path == b"/readyz" else b"404 Not Found")
    found = _of_runner(runner)
    for source in sources:
        found += await source(runner)
    body = await asyncio.to_thread(render, found)
    kind = b"text/plain; version=0.0.4; charset=utf-8"
    return b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s" % (kind, len(body), body)


def _of_runner(runner: Runner) -> list[Sample]:
    return [
        Sample("weir_service_info", (runner.name, runner.node), 1),
        Sample("weir_following", (), runner.following),
        Sample("weir_ready", (), runner.ready),
        Sample("weir_entities", (), len(runner.world.facts)),
        *runner.meter.samples(),
    ]


def render(samples: Iterable[Sample]) -> bytes:
    """Return the text that Prometheus reads.  A sample of a metric that is not in METRICS, or with other labels, is an error."""
    from prometheus_client import ProcessCollector, generate_latest  # not above: a service without metrics does not carry it
    from prometheus_client.metrics_core import Metric as Family

    families: dict[str, Family] = {}
    for name, labels, value in samples:
        metric = BY_NAME[name]
        family = families.setdefault(name, Family(name.removesuffix("_total"), metric.meaning, metric.kind))
        named = dict(zip(metric.labels, map(_harmless, labels), strict=True))
        for suffix, more, number in _lines(value):
            family.add_sample(name + suffix, named | more, number)

    class Once:
        def collect(self) -> Iterator[Family]:
            yield from families.values()
            yield from ProcessCollector(registry=None).collect()

    return generate_latest(Once())


def _harmless(label: str) -> str:
    """Escape a label, so that no name in it can control a terminal that shows the page."""
    return label if label.isprintable() else label.encode("unicode_escape").decode()


def _lines(value: float | Histogram) -> Iterator[tuple[str, dict[str, str], float]]:
    """Suffix of the name, labels beside the metric's own, and value."""
    if not isinstance(value, Histogram):
        yield "", {}, value
        return
    below = 0
    for bound, count in zip((*map(str, SECONDS), "+Inf"), value.counts, strict=True):
        below += count
        yield "_bucket", {"le": bound}, below
    yield "_sum", {}, value.sum_s
    yield "_count", {}, below
