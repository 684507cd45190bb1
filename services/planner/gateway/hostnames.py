"""Hostnames of listeners and routes: which cover which, and what is common to both (Gateway API, HTTPRouteSpec.hostnames).

"" is any hostname; "*.example.com" covers one or more labels before example.com, and not example.com itself.
"""

from collections.abc import Collection, Iterable

ANY = ""


def covers(pattern: str, hostname: str) -> bool:
    """True where every name that `hostname` stands for is one of `pattern`'s."""
    if pattern in (ANY, hostname):
        return True
    if not pattern.startswith("*.") or hostname == ANY:
        return False
    return hostname.removeprefix("*").endswith(pattern[1:]) and hostname != pattern[2:]


def common(listener: str, hostnames: Iterable[str]) -> list[str]:
    """The hostnames at which a listener serves a route; [ANY] where neither names one, [] where they have none in common."""
    wanted = list(hostnames) or [ANY]
    found = [
        hostname if covers(listener, hostname) else listener
        for hostname in wanted
        if covers(listener, hostname) or covers(hostname, listener)
    ]
    return list(dict.fromkeys(found))


def specificity(pattern: str) -> tuple[int, int]:
    """Order of patterns that cover one name, the most specific highest: exact names, then wildcards by length, then any."""
    if pattern == ANY:
        return 0, 0
    return (1, len(pattern)) if pattern.startswith("*.") else (2, len(pattern))


def closest(patterns: Collection[str], hostname: str) -> str | None:
    """The most specific of `patterns` that covers `hostname`; None where none does.   patterns: a set, so that cost follows labels."""
    labels = hostname.split(".")
    wider = ["*." + ".".join(labels[i:]) for i in range(1, len(labels))]
    return next((pattern for pattern in (hostname, *wider, ANY) if pattern in patterns), None)
