"""TLS of listeners and towards backends, through a real Envoy."""

import asyncio
import contextlib
import ssl
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from services.dataplane.l7.certificates import KeyPair
from tests.l7.backend import Backend, ask
from tests.l7.certificates import Authority
from tests.l7.proxy import Proxy, proxy
from tests.l7.test_proxy import LISTENER, VIP, WEB, host, rule, upstream

pytestmark = pytest.mark.usefixtures("loopback")
Test = Callable[[Proxy, Authority], Awaitable[None]]


def run(folder: Path, test: Test) -> None:
    pki = folder / "pki"
    pki.mkdir()
    authority = Authority(pki)

    async def whole() -> None:
        async with proxy(folder) as found, Backend("web", "127.0.0.1", 8080):
            for name, names in (("one", ("one.example.com",)), ("wild", ("*.example.com",)), ("rest", ("rest.example.org",))):
                found.secrets[f"Secret/shop/{name}"] = KeyPair(*authority.sign(name, *(f"DNS:{each}" for each in names)))
            await test(found, authority)

    asyncio.run(whole())


def client(authority: Authority, certificate: tuple[Path, Path] | None = None, alpn: str = "http/1.1") -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.path))
    context.set_alpn_protocols([alpn])
    if certificate:
        context.load_cert_chain(*certificate)
    return context


CHAINS = """
- type: listener_planned
  port: 443
  vips: [192.0.2.10]
  chains:
    - {name: one, hostnames: [one.example.com], tls: Terminate, certificates: [Secret/shop/one], digests: [a]}
    - {name: wild, hostnames: ["*.example.com"], tls: Terminate, certificates: [Secret/shop/wild], digests: [a]}
    - {name: rest, tls: Terminate, certificates: [Secret/shop/rest], digests: [a]}
"""


def secure(chain: str, hostname: str, more: str = "", status: int = 404) -> str:
    text = f"- type: virtualhost_planned\n  port: 443\n  chain: {chain}\n  hostname: '{hostname}'\n  status: {status}\n"
    return text + (f"  rules:\n{more}" if more else "")


def test_server_names_choose_certificate_and_routes(tmp_path: Path) -> None:
    hosts = secure("one", "one.example.com", rule("/")) + secure("one", "*", status=421)
    hosts += secure("wild", "*.example.com", rule("/wild")) + secure("rest", "rest.example.org", rule("/"))

    async def test(found: Proxy, authority: Authority) -> None:
        await found.planned(CHAINS + hosts + WEB)
        tls = client(authority)
        asked = [
            ("one.example.com", "one.example.com", "/", 200),
            ("one.example.com", "two.example.com", "/", 421),
            ("two.example.com", "two.example.com", "/wild", 200),
            ("two.example.com", "two.example.com", "/", 404),
            ("rest.example.org", "rest.example.org", "/", 200),
            ("rest.example.org", "one.example.com", "/", 404),
        ]
        for sni, hostname, path, status in asked:
            assert (await ask(VIP, 443, path, host=hostname, tls=tls, server_name=sni)).status == status, (sni, hostname)

    run(tmp_path, test)


def test_a_missing_secret_fails_its_own_chain_alone_until_it_comes(tmp_path: Path) -> None:
    async def test(found: Proxy, authority: Authority) -> None:
        kept = found.secrets.pop("Secret/shop/wild")
        await found.planned(CHAINS + secure("one", "one.example.com", rule("/")) + secure("wild", "*.example.com", rule("/")) + WEB)
        rejection = found.applier.rejections()[0]
        assert (rejection.owner, "not found" in rejection.reason) == ("Secret/shop/wild", True)
        tls = client(authority)
        assert (await ask(VIP, 443, host="one.example.com", tls=tls)).status == 200
        with pytest.raises((ssl.SSLError, OSError)):
            await ask(VIP, 443, host="two.example.com", tls=tls)
        found.secrets["Secret/shop/wild"] = kept
        async with asyncio.timeout(30):
            while found.applier.rejections() or await status(tls) != 200:  # Envoy reads the file a moment after it is there
                await asyncio.sleep(0.05)

    async def status(tls: ssl.SSLContext) -> int:
        with contextlib.suppress(ssl.SSLError, OSError):
            return (await ask(VIP, 443, host="two.example.com", tls=tls)).status
        return 0

    run(tmp_path, test)


def test_keys_are_on_the_memory_file_system_alone_and_nobody_else_may_read_them(tmp_path: Path) -> None:
    async def test(found: Proxy, authority: Authority) -> None:
        await found.planned(CHAINS + secure("one", "one.example.com", rule("/")) + WEB)
        for path in (tmp_path / "sds").iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        canary = found.secrets["Secret/shop/one"].key.splitlines()[2].encode()
        holding = [path for path in tmp_path.rglob("*") if path.is_file() and "pki" not in path.parts and canary in path.read_bytes()]
        assert [path.parent.name for path in holding] == ["sds"]
        assert canary not in await found.applier._admin.get("/config_dump?include_eds")

    run(tmp_path, test)


def test_a_rotated_certificate_is_served_without_closing_connections(tmp_path: Path) -> None:
    async def test(found: Proxy, authority: Authority) -> None:
        await found.planned(CHAINS + secure("one", "one.example.com", rule("/")) + WEB)
        tls = client(authority)

        async def served() -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
            reader, writer = await asyncio.open_connection(VIP, 443, ssl=tls, server_hostname="one.example.com")
            shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            return reader, writer, shown

        reader, writer, before = await served()
        found.secrets["Secret/shop/one"] = KeyPair(*authority.sign("again", "DNS:one.example.com"))
        await found.planned(CHAINS.replace("[Secret/shop/one], digests: [a]", "[Secret/shop/one], digests: [b]"))
        async with asyncio.timeout(30):
            while (await served())[2] == before:
                await asyncio.sleep(0.02)
        writer.write(b"GET / HTTP/1.1\r\nHost: one.example.com\r\n\r\n")
        assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 200")

    run(tmp_path, test)


def test_clients_authenticate_or_fall_back(tmp_path: Path) -> None:
    async def test(found: Proxy, authority: Authority) -> None:
        other = Authority(authority.path.parent, "other")
        pem = msgspec.json.encode(authority.pem).decode()
        chains = "".join(
            f"    - {{name: {name}, hostnames: [{name}.example.com], tls: Terminate, certificates: [Secret/shop/wild], "
            f"client_auth: {{authorities: [ConfigMap/shop/ca], required: {required}, pem: {pem}}}}}\n"
            for name, required in (("strict", "true"), ("lax", "false"))
        )
        listener = "- type: listener_planned\n  port: 443\n  vips: [192.0.2.10]\n  chains:\n" + chains
        await found.planned(listener + "".join(secure(name, f"{name}.example.com", rule("/")) for name in ("strict", "lax")) + WEB)
        authority.sign("me")
        other.sign("stranger")
        folder = authority.path.parent
        mine, strange = ((folder / f"{name}.crt", folder / f"{name}.key") for name in ("me", "stranger"))
        assert (await ask(VIP, 443, host="strict.example.com", tls=client(authority, mine))).status == 200
        for certificate in (None, strange):
            with pytest.raises((ssl.SSLError, OSError)):
                await ask(VIP, 443, host="strict.example.com", tls=client(authority, certificate))
            assert (await ask(VIP, 443, host="lax.example.com", tls=client(authority, certificate))).status == 200

    run(tmp_path, test)


def test_connections_pass_by_server_name_or_end_here(tmp_path: Path) -> None:
    listener = """
- type: listener_planned
  port: 8443
  vips: [192.0.2.10]
  chains:
    - {name: pass, hostnames: [pass.example.com], tls: Passthrough, http: false, shares: [{upstream: "shop/tls:80"}]}
    - name: one
      hostnames: [one.example.com]
      tls: Terminate
      certificates: [Secret/shop/one]
      http: false
      shares: [{upstream: "shop/tcp:80", weight: 3}, {upstream: "shop/tcp2:80"}]
    - {name: nobody, hostnames: [nobody.example.com], tls: Passthrough, http: false, shares: [{upstream: "shop/gone:80"}]}
"""

    async def test(found: Proxy, authority: Authority) -> None:
        authority.sign("pass", "DNS:pass.example.com")
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(authority.path.parent / "pass.crt", authority.path.parent / "pass.key")
        tls = client(authority)
        async with Backend("tls", "127.0.0.1", 8081, server), Backend("two", "127.0.0.1", 8082):
            upstreams = upstream("tls", 8081, ", protocol: tcp") + upstream("tcp", 8080, ", protocol: tcp")
            await found.planned(listener + upstreams + upstream("tcp2", 8082, ", protocol: tcp"))
            assert (await ask(VIP, 8443, host="pass.example.com", tls=tls)).backend == "tls"
            backends = [(await ask(VIP, 8443, host="one.example.com", tls=tls)).backend for _ in range(100)]
            assert 55 < backends.count("web") < 95
            for name in ("nobody.example.com", "unknown.example.com"):
                with pytest.raises((ssl.SSLError, OSError)):
                    await ask(VIP, 8443, host=name, tls=tls)

    run(tmp_path, test)


def test_backends_are_verified_and_clients_of_theirs_shown(tmp_path: Path) -> None:
    async def test(found: Proxy, authority: Authority) -> None:
        authority.sign("backend", "DNS:abc.example.com", "URI:spiffe://abc.example.com/me")
        folder = authority.path.parent
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.path))
        server.load_cert_chain(folder / "backend.crt", folder / "backend.key")
        server.verify_mode = ssl.CERT_REQUIRED
        found.secrets["Secret/shop/me"] = KeyPair(*authority.sign("me"))
        pem = msgspec.json.encode(authority.pem).decode()
        me = "client_certificate: Secret/shop/me"
        kinds = {
            "named": f"server_name: abc.example.com, pem: {pem}, {me}",
            "uri": f"server_name: abc.example.com, pem: {pem}, names: ['URI:spiffe://abc.example.com/me'], {me}",
            "other": f"server_name: other.example.com, pem: {pem}, {me}",
            "system": f"server_name: abc.example.com, {me}",
            "anonymous": f"server_name: abc.example.com, pem: {pem}",
        }
        rules = "".join(rule(f"/{name}", shares=f"[{{upstream: 'shop/{name}:80'}}]") for name in kinds)
        async with Backend("tls", "127.0.0.1", 8081, server):
            upstreams = "".join(upstream(name, 8081, f", tls: {{{tls}}}") for name, tls in kinds.items())
            await found.planned(LISTENER + host(rules) + upstreams)
            answers = {name: (await ask(VIP, 80, f"/{name}")).status for name in kinds}
            assert answers == {"named": 200, "uri": 200, "other": 503, "system": 503, "anonymous": 503}

    run(tmp_path, test)
