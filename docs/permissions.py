"""docs/permissions.md: who may what of the log and of the Kubernetes API, from the code and the manifests that give it."""

from pathlib import Path

import yaml

from docs.roles import rules
from weir.bus.permissions import User, users

BASE = Path(__file__).parents[1] / "deploy" / "base"


def permissions_page() -> str:
    """docs/permissions.md."""
    lines = [
        "# Who may what",
        "",
        "Made by `make docs` from `weir/bus/permissions.py`, `services/watcher/kinds` and `deploy/base`: change it there.",
        "`tests/e2e/test_permissions.py` and `tests/cluster/test_deploy.py` run the services with just this, and try to get beyond it.",
        "",
        "## The log",
        "",
        "NATS knows each user by its NKEY, over TLS; what is not named is refused. `<node>` stands for a node's name as it is in subjects.",
        "The streams are in account `LOG`, all users but `bootstrap` in account `WEIR` beside it, which reaches JetStream at `LOG.API.`:",
        "in one account with the streams, whoever asks for an answer at a subject of the log has NATS write it there.",
        "",
        "| user | publishes to | hears |",
        "|---|---|---|",
        *map(_row, users(["<node>"])),
        "",
        "## The Kubernetes API",
        "",
        "The watcher alone talks to it; the accounts of all others may nothing, and have no token.",
        "With `deploy/components/proxy` the watcher may list and watch Secrets and ConfigMaps, for the certificates of Gateways, and the",
        "agents of LB nodes may get Secrets, for the keys of TLS listeners. With `deploy/components/bgp` they may get those of",
        "weir-system, for the passwords of BGP sessions.",
        "",
        "| group | resources | verbs |",
        "|---|---|---|",
    ]
    lines += [f"| {rule.group or 'core'} | {', '.join(rule.resources)} | {', '.join(rule.verbs)} |" for rule in rules()]
    lines += ["", "## The kernel", "", "| container | capabilities |", "|---|---|"]
    lines += [f"| {container} | {', '.join(added) or 'none'} |" for container, added in node_capabilities().items()]
    lines += ["| all others | none, and not uid 0 |"]
    return "\n".join(lines) + "\n"


def node_capabilities() -> dict[str, list[str]]:
    """Of the containers on a machine that forwards."""
    pod = next(each for each in yaml.safe_load_all((BASE / "node.yaml").read_text()) if each["kind"] == "DaemonSet")["spec"]["template"][
        "spec"
    ]
    containers = (*pod["initContainers"], *pod["containers"])
    return {each["name"]: each["securityContext"]["capabilities"].get("add", []) for each in containers}


def _row(user: User) -> str:
    name = user.name.replace("=3Cnode=3E", "<node>")
    publish, subscribe = (
        "<br>".join(f"`{each}`" for each in subjects).replace("=3Cnode=3E", "<node>") for subjects in (user.publish, user.subscribe)
    )
    return f"| {name} | {publish} | {subscribe} |"
