"""kubernetes-asyncio's client and configuration without its 800 models: 63 MB, and a second of a processor at each start.

Its packages import all of themselves.  Here their parts are imported on demand; the client needs a
model only to decode into it, which Weir leaves to msgspec.
"""

import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec

if "kubernetes_asyncio" not in sys.modules:
    for _name in ("kubernetes_asyncio", "kubernetes_asyncio.client", "kubernetes_asyncio.client.models"):
        _spec = find_spec(_name)
        assert _spec
        sys.modules[_name] = module_from_spec(_spec)  # not executed
        _package, _, _part = _name.rpartition(".")
        if _package:
            setattr(sys.modules[_package], _part, sys.modules[_name])
    _client = sys.modules["kubernetes_asyncio.client"]
    for _module, _word in (("configuration", "Configuration"), ("api_client", "ApiClient")):
        setattr(_client, _word, getattr(import_module(f"kubernetes_asyncio.client.{_module}"), _word))

from kubernetes_asyncio.client import ApiClient as ApiClient
from kubernetes_asyncio.client import Configuration as Configuration
from kubernetes_asyncio.config import ConfigException as ConfigException
from kubernetes_asyncio.config import load_incluster_config as load_incluster_config
from kubernetes_asyncio.config.kube_config import load_kube_config as load_kube_config
