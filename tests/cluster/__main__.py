"""`make cluster`: a cluster with Weir deployed in it and three servers behind a VIP, until Ctrl-C or `make cluster-down`."""

import argparse
import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.cluster.binaries import NODE, BuildError, binary
from tests.cluster.cluster import folder_of
from tests.cluster.containers import store
from tests.cluster.deployed import WEB, Deployed, vips
from tests.cluster.machines import Machines, machines
from tests.cluster.node import family
from tests.cluster.rig import Rig
from weir.demo.network import wait_until

NAME = "weircl"
PATIENCE_S = 120


def up(name: str = NAME) -> int:
    """Until a signal ends it; 0 then."""
    if pid := _up(name):
        sys.exit(f"cluster: it is already up, pid {pid}: make cluster-down ends it")
    began_s = time.monotonic()
    with contextlib.ExitStack() as stack:
        with _step("programs and images (built once, then kept)"):
            for program in NODE:
                binary(program)
            stack.enter_context(store())
        with _step("network, control plane, nodes"):
            site = stack.enter_context(machines(name, apart=True))
            (site.cluster.folder / "pid").write_text(str(os.getpid()))
        weir = Deployed(site)
        with _step("kubectl apply -k, and its pods Ready"):
            weir.apply()
            weir.wait()
        with _step("a Service, and an answer on its VIP"):
            vip = _serve(site)
        pids = _pids(site)
        print(f"up after {time.monotonic() - began_s:.1f} s, {_memory_mb(pids)} MB in {len(pids)} processes", flush=True)
        _what_to_try(site, weir, vip)
        with contextlib.suppress(KeyboardInterrupt, SystemExit):
            signal.pause()
    return 0


def down(name: str = NAME) -> int:
    """Ends the one that is up, and removes what a killed one has left."""
    if pid := _up(name):
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), 30)
    Rig(name).destroy()
    shutil.rmtree(folder_of(name), ignore_errors=True)
    return 0


def _up(name: str) -> int:
    """The process of the one that is up, 0 where none is."""
    with contextlib.suppress(OSError, ValueError):
        pid = int((folder_of(name) / "pid").read_text())
        return pid if b"tests.cluster" in Path(f"/proc/{pid}/cmdline").read_bytes() else 0
    return 0


def _serve(site: Machines) -> str:
    """The example, until its IPv4 VIP answers; returns that."""
    site.cluster.api.apply(WEB.read_text())
    site.cluster.wait_for("a VIP", lambda: vips(site), PATIENCE_S)
    vip = next(vip for vip in vips(site) if "." in vip)
    asked = ("client", "curl", "--silent", "--max-time", "1", f"http://{vip}/")
    site.cluster.wait_for(f"an answer from {vip}", lambda: site.rig.run(*asked, check=False).stdout.startswith("web-"), PATIENCE_S)
    return vip


@contextlib.contextmanager
def _step(what: str) -> Iterator[None]:
    began_s = time.monotonic()
    yield
    print(f"  {time.monotonic() - began_s:6.1f} s  {what}", flush=True)


def _pids(site: Machines) -> set[int]:
    """Of all that runs in the rig, in pods too."""
    found = {pid for first in site.processes() for pid in family(first)}
    for space in Path("/run/netns").glob(f"{site.rig.name}-*"):
        done = subprocess.run(["ip", "netns", "pids", space.name], text=True, capture_output=True, check=True)
        found |= {int(pid) for pid in done.stdout.split()}
    return found


def _memory_mb(pids: set[int]) -> int:
    """What is shared is shared out (PSS)."""
    total_kb = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total_kb += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total_kb // 1024


def _what_to_try(site: Machines, weir: Deployed, vip: str) -> None:
    name, folder = site.rig.name, site.cluster.folder
    tools = folder / "bin"
    tools.mkdir()
    for tool, command in {
        "kubectl": f'{binary("cluster")} kubectl "$@"',
        **{node: f'{shlex.join(site.inside(node))} "$@"' for node in site.nodes},
        "weir": f'{shlex.join(weir.command())} "$@"',
        "client": f'nsenter --net=/run/netns/{name}-client "$@"',
    }.items():
        (tools / tool).write_text(f"#!/bin/sh\nexec {command}\n")
        (tools / tool).chmod(0o755)
    print(
        f"""
To try it, in another terminal:
  export KUBECONFIG={site.cluster.kubeconfig} PATH={tools}:$PATH
  kubectl get nodes,pods,svc,lbservices,vippools -o wide
  client curl http://{vip}/                       # again and again: pods of routed and of overlay nodes take turns
  kubectl scale deployment web --replicas 0; kubectl get events; kubectl scale deployment web --replicas 5
  kubectl set image deployment web web=weir/backend:2
  kubectl logs deployment/web
  kubectl -n weir-system get pods -o wide; kubectl -n weir-system logs -l app.kubernetes.io/name=node -c dataplane
  weir get lb; weir get ep; weir log tail -f; weir log why default/web
  kubectl exec -it deployment/web -- bash
  n1 bash                                           # a node; {", ".join(site.nodes)}
Ctrl-C here, or `make cluster-down`, removes all of it.""",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    parser.add_argument("--down", action="store_true", help="end the one that is up")
    args = parser.parse_args()
    if os.geteuid():
        sys.exit("cluster: network namespaces need root")
    try:
        sys.exit(down() if args.down else up())
    except BuildError as error:
        sys.exit(f"cluster: {error}")


if __name__ == "__main__":
    main()
