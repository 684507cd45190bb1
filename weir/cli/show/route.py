"""`weir route`: which rule of a Gateway would take a request, and why the others would not."""

from collections.abc import Sequence

import typer

from weir.cli.output import MACHINE, emit, emit_one, harmless, row_of
from weir.view.requests import Decision, Request, decide


def route(gateway: str, request: Request, instance: str, output: str) -> None:
    """Print the decision; it is taken from the plan, so it holds where status says Programmed."""
    from weir.cli.ask import ask
    from weir.view.history import connect, world_at

    async def question() -> Decision:
        async with await connect(instance) as bus:
            return decide((await world_at(bus, ""))[0], gateway, request)

    decision = ask(instance, question())
    if output in MACHINE:
        emit_one(row_of(decision), output)
        return
    emit([row_of(each) for each in decision.considered], output, columns=("route", "rule", "match", "why"))
    typer.echo("\n" + harmless(_sentence(decision)))


def _sentence(decision: Decision) -> str:
    where = f"listener {decision.listener}, hostname {decision.hostname or 'none'}"
    if not decision.route:
        return f"✗ answered {decision.status}: no rule matches ({where})"
    by = f"{decision.route} rule {decision.rule} ({where})"
    through = f" through {', '.join(decision.filters)}" if decision.filters else ""
    return f"✓ {by}{through}: {_end(decision.upstreams, decision.status)}"


def _end(upstreams: Sequence[str], status: int) -> str:
    return f"to {', '.join(upstreams)}" if upstreams else f"answered {status}"
