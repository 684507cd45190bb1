"""Commands for whoever runs Weir on a machine: the log's limits, backup, and the systemd unit."""

from weir.cli.amounts import Age, Size
from weir.cli.options import Instance


def limit(instance: Instance = "weir", age: Age = None, size: Size = None) -> None:
    """How large and old the log may get.  A full log takes no more facts until it has room; this gives it some, at once."""
    from weir.cli.limits import Limits, limit

    limit(instance, Limits(size, age))
