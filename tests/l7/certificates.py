"""Certificates for tests: an authority, and what it signs."""

import subprocess
from pathlib import Path


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder, self._key, self.path = folder, folder / f"{name}.key", folder / f"{name}.crt"
        _openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"),
            *("-subj", f"/CN={name}", "-keyout", str(self._key), "-out", str(self.path)),
        )

    @property
    def pem(self) -> str:
        return self.path.read_text()

    def sign(self, name: str, *names: str) -> tuple[str, str]:
        """Certificate and key in PEM.   names: "DNS:a.example.com", "URI:spiffe://a"."""
        key, request, signed, extensions = (self._folder / f"{name}.{end}" for end in ("key", "csr", "crt", "ext"))
        _openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}"),
            *("-keyout", str(key), "-out", str(request)),
        )
        extensions.write_text(f"subjectAltName={','.join(names or (f'DNS:{name}',))}\n")
        _openssl(
            *("x509", "-req", "-in", str(request), "-CA", str(self.path), "-CAkey", str(self._key), "-CAcreateserial", "-days", "2"),
            *("-extfile", str(extensions), "-out", str(signed)),
        )
        return signed.read_text(), key.read_text()
