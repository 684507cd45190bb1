"""What a cluster has besides its control plane and its nodes: names for pods, and volumes for their claims; one process of it."""

import argparse
import signal
from pathlib import Path

from tests.cluster.api import Api
from tests.cluster.claims import serve_claims
from tests.cluster.names import serve_names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubeconfig", required=True, type=Path)
    parser.add_argument("--address", required=True, help="where names are asked for")
    parser.add_argument("--claims", required=True, type=Path, help="folder of the claims' volumes")
    args = parser.parse_args()
    api = Api.of(args.kubeconfig)
    serve_names(api, args.address)
    serve_claims(api, args.claims)
    signal.pause()


if __name__ == "__main__":
    main()
