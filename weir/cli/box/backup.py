"""`weir backup` and `weir restore`: the streams of the log in one file, as JetStream saves them, sequences and times kept.

The history is taken last and so is never older than the others: restored, the mirror follows it to its end by itself.  All are
needed, for what changed last before the history begins is in a snapshot or the mirror alone.
"""

import asyncio
import errno
import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import msgspec
import nats
import typer
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.protocol.parser import PERMISSIONS_ERR

from weir.bus.access import BOOTSTRAP, nats_access
from weir.bus.client import Bus
from weir.bus.identity import identity_of
from weir.bus.nats_client import NatsClient, not_connected
from weir.bus.reader import GONE, Forbidden, LogUnreachable, checked, request
from weir.bus.snapshots import SNAPSHOTS
from weir.bus.subjects import STATE, STREAM
from weir.cli.ask import ask
from weir.cli.box.supervise import UpError, claim, die_with_parent, holds_plan, nats_command
from weir.view.history import url_of
from weir.view.processes import running
from weir.where import Where
from weir.words import reason_of

_STREAMS = (STATE, SNAPSHOTS, STREAM)  # in this order
_CHUNK_BYTES = 1 << 17
_PATIENCE_S = 30.0


class BackupError(Exception):
    """The file is no backup, or cannot be restored here."""


class Manifest(msgspec.Struct, frozen=True, tag_field="type", tag="weir_backup"):
    """The first member of the file.  streams: name -> configuration and state, from the server."""

    instance: str
    taken_s: int
    streams: dict[str, dict[str, Any]]
    version: int = 2


def backup(instance: str, path: Path) -> None:
    """Write the file atomically, while Weir runs.  Raises OSError."""
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"folder {path.parent} not found: make it first")

    async def question() -> tuple[int, int]:
        async with _client(url_of(instance)) as nc:
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=".weir-backup-") as folder:
                files = {name: Path(folder) / name for name in _STREAMS}
                taken = {name: await _take(nc, name, file) for name, file in files.items()}
                whole = Path(folder) / "whole"
                _pack(whole, Manifest(instance, int(time.time()), taken), files)
                whole.replace(path)
        return taken[STREAM]["state"]["last_seq"], path.stat().st_size

    last, size_bytes = ask(instance, question())
    typer.echo(f"{path}: the log up to event {last}, {size_bytes:,} bytes")


def restore(instance: str, path: Path, *, force: bool) -> None:
    """Replace the log by the file's.  Raises BackupError, UpError, LogError or OSError, and leaves everything as it was."""
    where = Where(instance)
    if "WEIR_NATS" in os.environ:
        raise BackupError(f"WEIR_NATS names the log at {where.nats_url()}: only an instance's own log can be restored, without WEIR_NATS")
    if pids := running(where):
        raise UpError(f"instance {instance} is up, pid {pids['up']}: stop it first; the kernel keeps forwarding")
    with _opened(path) as (tar, manifest):  # before anything is made: it may be no backup
        last = _restore_into(where, tar, manifest, force=force)
    typer.echo(f"the log of {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(manifest.taken_s))} is restored, up to event {last}")
    if holds_plan(where, last):
        typer.echo("until weir up has applied this log, the node forwards by the plan on its disk")


def _restore_into(where: Where, tar: tarfile.TarFile, manifest: Manifest, *, force: bool) -> int:
    """Return the last sequence of the restored log."""
    where.run.mkdir(parents=True, exist_ok=True)
    where.state.mkdir(parents=True, exist_ok=True)
    claim(where)  # held until this command ends
    store, aside = where.state / "nats", where.state / "nats.before"
    if _holds_log(store) and not force:
        raise UpError(f"{store} holds a log: --force moves it to {aside}")
    if _holds_log(store) and aside.exists():
        raise UpError(f"{aside} holds the log before an earlier restore: move or remove it first")
    with _in_place_of(store, aside):
        return asyncio.run(_restore(where, tar, manifest))


async def _restore(where: Where, tar: tarfile.TarFile, manifest: Manifest) -> int:
    async with _server(where), await _reach(where) as bus, _client(where.nats_url()) as nc:
        for name in reversed(_STREAMS):
            source = tar.extractfile(name)
            assert source
            await _put_back(nc, name, manifest.streams[name], source)
        info = await bus.stream()
        last: int = info["state"]["last_seq"]
        branched = identity_of(info["config"]).branched(os.urandom(4).hex(), last)
        await bus.api(f"STREAM.UPDATE.{STREAM}", info["config"] | {"metadata": branched.metadata()})
        async with asyncio.timeout(_PATIENCE_S):
            while (await bus.stream(STATE))["state"]["last_seq"] < last:
                await asyncio.sleep(0.05)
        return last


async def _take(nc: Client, name: str, path: Path) -> dict[str, Any]:
    """Write the snapshot of a stream; return its configuration and state."""
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    inbox = nc.new_inbox()
    with path.open("wb") as file:

        async def received(message: Msg) -> None:
            file.write(message.data)
            status = (message.headers or {}).get("Status", "")
            if not message.data and not ended.done():
                if status in ("", "204"):
                    ended.set_result(None)
                else:
                    ended.set_exception(BackupError(f"{name}: NATS aborted the snapshot with status {status}"))
            elif message.reply:
                await nc.publish(message.reply, b"")  # or the server stops after a few

        await nc.subscribe(inbox, cb=received)
        wish = {"deliver_subject": inbox, "no_consumers": True, "chunk_size": _CHUNK_BYTES}
        reply = await request(nc, f"STREAM.SNAPSHOT.{name}", wish)
        async with asyncio.timeout(_PATIENCE_S * 10):
            await ended
    return {"config": reply["config"], "state": reply["state"]}


async def _put_back(nc: Client, name: str, reply: dict[str, Any], source: IO[bytes]) -> None:
    where: str = (await request(nc, f"STREAM.RESTORE.{name}", reply))["deliver_subject"]
    while chunk := source.read(_CHUNK_BYTES):
        await nc.request(where, chunk, timeout=_PATIENCE_S)
    checked(await nc.request(where, b"", timeout=_PATIENCE_S))


def _pack(path: Path, manifest: Manifest, files: dict[str, Path]) -> None:
    body = msgspec.json.encode(manifest)
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo("backup.json")
        member.size, member.mtime = len(body), manifest.taken_s
        tar.addfile(member, BytesIO(body))
        for name, file in files.items():
            tar.add(file, name)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[tarfile.TarFile, Manifest]]:
    """Raises BackupError where the file is none of ours, or not whole."""
    try:
        with tarfile.open(path, "r:") as tar:
            names = tar.getnames()
            member = tar.extractfile("backup.json")
            manifest = msgspec.json.decode(member.read() if member else b"", type=Manifest)
            if lacking := {*_STREAMS} - ({*names} & {*manifest.streams}):
                raise BackupError(f"{path} is not a complete backup: missing {', '.join(sorted(lacking))}")
            yield tar, manifest
    except (KeyError, tarfile.TarError, msgspec.MsgspecError) as error:
        raise BackupError(f"{path} is not a complete backup: {error}") from error


@contextmanager
def _in_place_of(store: Path, aside: Path) -> Iterator[None]:
    """Move a log that `store` holds aside, and back where the block fails."""
    if moved := _holds_log(store):
        store.rename(aside)
    try:
        yield
    except BaseException:
        shutil.rmtree(store, ignore_errors=True)
        if moved:
            aside.rename(store)
        raise


def _holds_log(store: Path) -> bool:
    return store.exists() and any(store.iterdir())


@asynccontextmanager
async def _server(where: Where) -> AsyncIterator[None]:
    """Run the log's server during the block, on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    quiet = subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*nats_command(where, port), stdout=quiet, stderr=quiet, preexec_fn=die_with_parent)
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def _reach(where: Where) -> Bus:
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            try:
                return await Bus.connect(where.nats_url(), "restore")
            except LogUnreachable:
                await asyncio.sleep(0.05)


@asynccontextmanager
async def _client(url: str) -> AsyncIterator[Client]:
    nc, given, refused = NatsClient(), nats_access(BOOTSTRAP), list[str]()

    async def reply(error: Exception) -> None:
        """Record a refusal: nats-py reports every other error by an exception."""
        if PERMISSIONS_ERR in str(error):
            refused.append(str(error))

    once = {"connect_timeout": 2, "allow_reconnect": False, "max_reconnect_attempts": 1, "error_cb": reply}
    try:
        try:
            await nc.connect(url.split(","), name="backup", **once, **given)
        except GONE as error:
            raise not_connected(url, BOOTSTRAP, error) from error
        yield nc
    except (LogUnreachable, nats.errors.Error, TimeoutError) as error:
        raise Forbidden(refused[0]) if refused else LogUnreachable(reason_of(error)) from error
    finally:
        await nc.close()
