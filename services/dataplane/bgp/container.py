"""FRR's daemons in a container of their own: the folders that they need, and their keeper in the foreground, until SIGTERM."""

from pathlib import Path

from services.dataplane.bgp.places import kept, make_folders
from services.dataplane.keeper import KEEPERS, Keeper
from weir.where import Where


def main() -> None:
    """What they say goes to the container's log."""
    where = Where()
    found = kept(where)
    assert found, "the image has FRR"
    make_folders(where)
    (where.run / KEEPERS).mkdir(parents=True, exist_ok=True)
    Keeper(where.run / KEEPERS, found._replace(log=Path("/dev/stderr"))).keep()


if __name__ == "__main__":
    main()
