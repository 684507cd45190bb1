"""The services.  None imports another: they meet in `weir.events`, through the log.

structlog and nats-py each look for a package that Weir has for other purposes, its command line and its Kubernetes client.  Every
service would be 13 MB larger for what it never uses.
"""

import sys
from importlib import import_module

for _package, _optional in (("structlog", "rich"), ("nats", "aiohttp")):
    if _optional not in sys.modules:
        sys.modules[_optional] = None  # type: ignore[assignment]  # as where it is not installed
        import_module(_package)
        del sys.modules[_optional]
