"""The kubelet's own server: what a pod's containers have written, for `kubectl logs`."""

import http.server
import socket
import ssl
import threading
from pathlib import Path
from urllib.parse import urlsplit

from tests.cluster.container import log_file
from tests.cluster.pod import Place

PORT = 10250


def serve_logs(place: Place, certificate: Path, key: Path) -> None:
    """On every address of the node, for as long as the process lives.  The API server does not look at the certificate."""

    class Handler(http.server.BaseHTTPRequestHandler):
        """`/containerLogs/NAMESPACE/POD/CONTAINER`; what is asked for further is passed over: all is told."""

        def do_GET(self) -> None:
            match urlsplit(self.path).path.strip("/").split("/"):
                case ["containerLogs", namespace, pod, container] if ".." not in (namespace, pod, container):
                    self._answer(log_file(place.pod_folder(namespace, pod), container))
                case _:
                    self.send_error(404)

        def log_message(self, *args: object) -> None:
            """Nothing of it."""

        def _answer(self, path: Path) -> None:
            if not path.exists():
                self.send_error(404, "no such container here")
                return
            content = path.read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = _Server(("::", PORT), Handler)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()


class _Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
