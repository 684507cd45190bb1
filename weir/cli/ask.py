"""How a command asks the log: one question, with progress at a terminal, and an exit code where there is no answer."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import typer

from weir.bus.reader import LogError
from weir.cli.output import Progress
from weir.view.errors import Unanswerable
from weir.view.progress import displayed
from weir.view.recording import RecordingError

T = TypeVar("T")


def ask(instance: str, question: "Coroutine[Any, Any, T]") -> T:
    """Run one question to the log.  Exit code 1: what was asked for is not found, 2: the log cannot answer."""
    try:
        with displayed(Progress):
            return asyncio.run(question)
    except Unanswerable as error:
        typer.echo(f"weir: {error}", err=True)
        raise typer.Exit(error.code) from error
    except RecordingError as error:
        typer.echo(f"weir: {error}", err=True)
        raise typer.Exit(2) from error
    except LogError as error:
        typer.echo(f"weir: the log of instance {instance} cannot be read: {error}", err=True)
        raise typer.Exit(2) from error
