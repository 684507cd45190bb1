"""Plans in, answers of a real Envoy out."""

import asyncio
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.l7.backend import Backend, ask
from tests.l7.proxy import Proxy, proxy

pytestmark = pytest.mark.usefixtures("loopback")
VIP = "192.0.2.10"
WEB = """
- {type: upstream_planned, name: "shop/web:80", sets: [{name: "shop/web:80/TCP:IPv4", chunks: 1}]}
- {type: backends_planned, set: "shop/web:80/TCP:IPv4", chunk: 0, chunks: 1, protocol: TCP, backends: [{address: 127.0.0.1, port: 8080}]}
"""
LISTENER = "- {type: listener_planned, port: 80, vips: [192.0.2.10, '2001:db8::10'], chains: [{name: http}]}\n"
Test = Callable[[Proxy], Awaitable[None]]


def host(rules: str, name: str = "*", port: int = 80) -> str:
    return f"- type: virtualhost_planned\n  port: {port}\n  chain: http\n  hostname: '{name}'\n  rules:\n{rules}"


def rule(path: str, more: str = "", name: str = "", shares: str = '[{upstream: "shop/web:80"}]') -> str:
    more = f", {more}" if more else ""
    return f"    - {{route: HTTPRoute/shop/web, rule: '{name or path}', match: {{path: {{value: {path}}}}}, shares: {shares}{more}}}\n"


def run(folder: Path, test: Test) -> None:
    async def whole() -> None:
        async with proxy(folder) as found, Backend("web", "127.0.0.1", 8080):
            await test(found)

    asyncio.run(whole())


def test_a_route_serves_on_every_vip(tmp_path: Path) -> None:
    async def test(found: Proxy) -> None:
        await found.planned(LISTENER + host(rule("/")) + WEB)
        for vip in (VIP, "2001:db8::10"):
            answer = await ask(vip, 80, "/a?b=c")
            assert (answer.status, answer.seen["target"]) == (200, "/a?b=c")
        assert found.applier.rejections() == []

    run(tmp_path, test)


def test_matches_are_by_whole_segments_and_in_order(tmp_path: Path) -> None:
    rules = (
        "    - {route: HTTPRoute/shop/web, rule: exact, match: {path: {kind: Exact, value: /one}}, status: 201}\n"
        "    - {route: HTTPRoute/shop/web, rule: regex, match: {path: {kind: RegularExpression, value: '/r/[0-9]+'}}, status: 202}\n"
        "    - {route: HTTPRoute/shop/web, rule: post, match: {method: POST}, status: 203}\n"
        "    - {route: HTTPRoute/shop/web, rule: header, match: {headers: [{name: Color, value: red}]}, status: 205}\n"
        "    - {route: HTTPRoute/shop/web, rule: query, status: 206,"
        " match: {queries: [{name: size, value: '[0-9]+', kind: RegularExpression}]}}\n"
        "    - {route: HTTPRoute/shop/web, rule: prefix, match: {path: {value: /two}}, status: 207}\n"
    )

    async def test(found: Proxy) -> None:
        await found.planned(LISTENER + host(rules))
        asked = {
            "/one": 201,
            "/one/": 404,
            "/r/12": 202,
            "/r/1a": 404,
            "/two": 207,
            "/two/x": 207,
            "/twofold": 404,
            "/?size=3": 206,
            "/?size=x": 404,
        }
        assert {path: (await ask(VIP, 80, path)).status for path in asked} == asked
        assert (await ask(VIP, 80, "/", method="POST")).status == 203
        assert (await ask(VIP, 80, "/", headers=(("color", "red"),))).status == 205

    run(tmp_path, test)


def test_hostnames_exact_wild_and_with_a_port(tmp_path: Path) -> None:
    async def test(found: Proxy) -> None:
        hosts = {"www.example.com": 201, "*.example.com": 202}
        rules = {name: f"    - {{route: HTTPRoute/shop/web, rule: '0', match: {{}}, status: {code}}}\n" for name, code in hosts.items()}
        await found.planned(LISTENER + "".join(host(rules[name], name) for name in hosts))
        asked = {"www.example.com": 201, "www.example.com:8080": 201, "WWW.example.com": 201, "a.b.example.com": 202, "example.com": 404}
        assert {name: (await ask(VIP, 80, host=name)).status for name in asked} == asked

    run(tmp_path, test)


REWRITES = [
    # prefix, value, requested, what the backend gets
    ("/strip", "/", "/strip", "/"),
    ("/strip", "/", "/strip/", "/"),
    ("/strip", "/", "/strip/a?x=y", "/a?x=y"),
    ("/a", "/b/", "/a", "/b"),
    ("/a", "/b/", "/a/c", "/b/c"),
    ("/a/", "/b", "/a/c/", "/b/c/"),
    ("/", "/b", "/c", "/b/c"),
    ("/x.y", "/z", "/x.y/1", "/z/1"),
]


def test_prefixes_are_replaced_as_the_gateway_api_says(tmp_path: Path) -> None:
    async def test(found: Proxy) -> None:
        for prefix, value, asked, got in REWRITES:
            change = f"filters: [{{type: URLRewrite, rewrite: {{hostname: h, path: {{kind: ReplacePrefixMatch, value: {value}}}}}}}]"
            await found.planned(LISTENER + host(rule(prefix, change)) + WEB)
            answer = await ask(VIP, 80, asked)
            assert (answer.seen["target"], answer.header("host")) == (got, "h"), (prefix, value, asked)
        change = "filters: [{type: URLRewrite, rewrite: {path: {kind: ReplaceFullPath, value: '/one'}}}]"
        await found.planned(host(rule("/", change)))
        assert (await ask(VIP, 80, "/a/b?x=y")).seen["target"] == "/one?x=y"

    run(tmp_path, test)


REDIRECTS = [
    # listener's port, redirect, requested, Location
    (80, "{scheme: https, status: 301}", "/a?b=c", "https://www.example.com/a?b=c"),
    (80, "{hostname: new.example.com}", "/a", "http://new.example.com/a"),
    (80, "{port: 8443, scheme: https}", "/a", "https://www.example.com:8443/a"),
    (8080, "{hostname: new.example.com}", "/a", "http://new.example.com:8080/a"),
    (8080, "{scheme: https}", "/a", "https://www.example.com:443/a"),
    (80, "{path: {kind: ReplacePrefixMatch, value: /new}, status: 307}", "/a/b", "http://www.example.com/new/a/b"),
    (80, "{path: {kind: ReplaceFullPath, value: /new}, status: 308}", "/a/b", "http://www.example.com/new"),
]


def test_redirects(tmp_path: Path) -> None:
    async def test(found: Proxy) -> None:
        await found.planned(LISTENER + LISTENER.replace("port: 80,", "port: 8080,"))
        for port, redirect, asked, location in REDIRECTS:
            await found.planned(host(rule("/", f"filters: [{{type: RequestRedirect, redirect: {redirect}}}]", shares="[]"), port=port))
            answer = await ask(VIP, port, asked, host=f"www.example.com:{port}" if port != 80 else "www.example.com")
            code = next((int(word) for word in ("301", "307", "308") if word in redirect), 302)
            assert (answer.status, answer.headers.get("location")) == (code, location), redirect

    run(tmp_path, test)


def test_headers_are_set_added_and_removed(tmp_path: Path) -> None:
    change = (
        "filters: [{type: RequestHeaderModifier, headers: {set: [{name: x-set, value: 50%}, {name: Host, value: inner}], "
        "add: [{name: x-add, value: b}], remove: [x-gone]}}, "
        "{type: ResponseHeaderModifier, headers: {add: [{name: x-answer, value: '1'}], remove: [content-type]}}]"
    )

    async def test(found: Proxy) -> None:
        await found.planned(LISTENER + host(rule("/", change)) + WEB)
        answer = await ask(VIP, 80, headers=(("x-set", "old"), ("x-add", "a"), ("x-gone", "1")))
        assert (answer.header("x-set"), answer.header("x-gone"), answer.header("host")) == ("50%", None, "inner")
        assert answer.header("x-add") in ("a,b", "b")  # h11 gives two lines
        assert (answer.headers["x-answer"], answer.headers.get("content-type")) == ("1", None)

    run(tmp_path, test)


def upstream(name: str, port: int, more: str = "") -> str:
    return (
        f"- {{type: upstream_planned, name: 'shop/{name}:80', sets: [{{name: 'shop/{name}:80/TCP:IPv4', chunks: 1}}]{more}}}\n"
        f"- {{type: backends_planned, set: 'shop/{name}:80/TCP:IPv4', chunk: 0, chunks: 1, protocol: TCP,"
        f" backends: [{{address: 127.0.0.1, port: {port}}}]}}\n"
    )


def test_weights_and_what_has_no_backend(tmp_path: Path) -> None:
    shares = (
        "[{upstream: 'shop/web:80', weight: 75, filters: [{type: RequestHeaderModifier, headers: {set: [{name: x-share, value: a}]}}]}, "
    )
    shares += "{upstream: 'shop/b:80', weight: 25}, {upstream: 'shop/nobody:80', weight: 0}]"
    half = "[{upstream: 'shop/web:80'}, {upstream: 'shop/nobody:80'}]"

    async def test(found: Proxy) -> None:
        async with Backend("b", "127.0.0.1", 8081):
            rules = rule("/w", shares=shares) + rule("/half", shares=half) + rule("/none", shares="[]")
            rules += rule("/gone", shares="[{upstream: 'shop/nobody:80'}]")
            await found.planned(LISTENER + host(rules) + WEB + upstream("b", 8081))
            answers = await asyncio.gather(*(ask(VIP, 80, "/w") for _ in range(400)))
            by_a = [answer for answer in answers if answer.backend == "web"]
            assert 240 < len(by_a) < 360
            assert {answer.header("x-share") for answer in by_a} == {"a"}
            assert {answer.status for answer in await asyncio.gather(*(ask(VIP, 80, "/half") for _ in range(60)))} == {200, 500}
            assert ((await ask(VIP, 80, "/none")).status, (await ask(VIP, 80, "/gone")).status) == (500, 500)

    run(tmp_path, test)


def test_mirrors_get_their_share(tmp_path: Path) -> None:
    more = "filters: [{type: RequestMirror, mirror: {backend: {name: b, namespace: shop}}}, "
    more += "{type: RequestMirror, mirror: {backend: {name: c, namespace: shop}, numerator: 1, denominator: 4}}], "
    more += "mirrors: [{upstream: 'shop/b:80'}, {upstream: 'shop/c:80'}]"

    async def test(found: Proxy) -> None:
        async with Backend("b", "127.0.0.1", 8081) as all_of_them, Backend("c", "127.0.0.1", 8082) as some:
            await found.planned(LISTENER + host(rule("/", more)) + WEB + upstream("b", 8081) + upstream("c", 8082))
            for number in range(200):
                assert (await ask(VIP, 80, f"/?n={number}")).backend == "web"
            async with asyncio.timeout(5):
                while len(all_of_them.requests) < 200:
                    await asyncio.sleep(0.01)
            assert 20 <= len(some.requests) <= 85
            assert all_of_them.requests[0]["headers"]["host"] == "www.example.com"  # type: ignore[index]

    run(tmp_path, test)


def test_cross_origin_rules(tmp_path: Path) -> None:
    rules = "{origins: ['https://www.foo.com', 'https://*.bar.com'], methods: [GET, PUT], headers: [x-a], max_age_s: 60}"
    more = f"filters: [{{type: CORS, cors: {rules}}}]"

    async def preflight(origin: str) -> tuple[int, str | None, str | None]:
        headers = (("Origin", origin), ("Access-Control-Request-Method", "PUT"))
        answer = await ask(VIP, 80, method="OPTIONS", headers=headers)
        return answer.status, answer.headers.get("access-control-allow-origin"), answer.headers.get("access-control-max-age")

    async def test(found: Proxy) -> None:
        await found.planned(LISTENER + host(rule("/", more)) + WEB)
        assert await preflight("https://www.foo.com") == (200, "https://www.foo.com", "60")
        assert await preflight("https://a.bar.com") == (200, "https://a.bar.com", "60")
        assert (await preflight("https://other.com"))[1] is None
        assert (await ask(VIP, 80, headers=(("Origin", "https://a.bar.com"),))).headers[
            "access-control-allow-origin"
        ] == "https://a.bar.com"

    run(tmp_path, test)


def test_times_and_retries(tmp_path: Path) -> None:
    rules = rule("/delay", "request_ms: 2000") + rule("/fail", "retry: {codes: [503], attempts: 2, backoff_ms: 5}")

    async def test(found: Proxy) -> None:
        await found.planned(LISTENER + host(rules + rule("/")) + WEB)
        assert ((await ask(VIP, 80, "/delay/10")).status, (await ask(VIP, 80, "/delay/6000")).status) == (200, 504)
        answers = await asyncio.gather(*(ask(VIP, 80, f"/fail/2/{number}") for number in range(20)))
        assert [answer.status for answer in answers] == [200] * 20
        assert (await ask(VIP, 80, "/fail/3/more")).status == 503

    run(tmp_path, test)


def test_sessions_stay_with_their_backend(tmp_path: Path) -> None:
    rules = rule("/cookie", "persistence: {name: s}") + rule("/header", "persistence: {kind: Header, name: x-session}")
    sets = "[{address: 127.0.0.1, port: 8080}, {address: 127.0.0.1, port: 8081}]"

    async def test(found: Proxy) -> None:
        async with Backend("b", "127.0.0.1", 8081):
            await found.planned(LISTENER + host(rules) + WEB.replace("[{address: 127.0.0.1, port: 8080}]", sets))
            first = await ask(VIP, 80, "/cookie")
            cookie = first.headers["set-cookie"].partition(";")[0]
            stayed = [await ask(VIP, 80, "/cookie", headers=(("Cookie", cookie),)) for _ in range(20)]
            assert {answer.backend for answer in stayed} == {first.backend}
            first = await ask(VIP, 80, "/header")
            session = (("x-session", first.headers["x-session"]),)
            assert {(await ask(VIP, 80, "/header", headers=session)).backend for _ in range(20)} == {first.backend}

    run(tmp_path, test)


def test_websockets(tmp_path: Path) -> None:
    async def test(found: Proxy) -> None:
        await found.planned(LISTENER + host(rule("/")) + WEB)
        reader, writer = await asyncio.open_connection(VIP, 80)
        writer.write(b"GET /ws HTTP/1.1\r\nHost: www.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
        writer.write(b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert head.startswith(b"HTTP/1.1 101 ")
        writer.write(b"\x81\x85\x00\x00\x00\x00hello")
        assert await asyncio.wait_for(reader.readexactly(11), 5) == b"\x81\x85\x00\x00\x00\x00hello"
        writer.close()

    run(tmp_path, test)


def test_hosts_come_and_go_without_a_failed_request(tmp_path: Path) -> None:
    async def test(found: Proxy) -> None:
        await found.planned(LISTENER + host(rule("/"), "www.example.com") + WEB)
        ended, statuses = asyncio.Event(), list[int]()

        async def load() -> None:
            while not ended.is_set():
                statuses.append((await ask(VIP, 80)).status)

        loads = [asyncio.ensure_future(load()) for _ in range(4)]
        for round_ in range(2):
            for number in range(50):
                shares = f"[{{upstream: 'shop/u{number}:80'}}]"
                await found.planned(upstream(f"u{number}", 8080) + host(rule("/", shares=shares), f"h{number}.example.com"))
                assert (await ask(VIP, 80, host=f"h{number}.example.com")).status == 200, (round_, number)
            for number in range(50):
                gone = f"- {{type: virtualhost_withdrawn, port: 80, chain: http, hostname: h{number}.example.com}}\n"
                gone += f"- {{type: upstream_withdrawn, name: 'shop/u{number}:80'}}\n"
                await found.planned(gone)
        ended.set()
        await asyncio.gather(*loads)
        assert set(statuses) == {200}
        assert len(list((tmp_path / "envoy" / "eds").iterdir())) == 1

    run(tmp_path, test)


def test_rules_move_to_new_upstreams_without_a_failed_request(tmp_path: Path) -> None:
    async def test(found: Proxy) -> None:
        await found.planned(LISTENER + host(rule("/")) + WEB)
        ended, statuses = asyncio.Event(), list[int]()

        async def load() -> None:
            while not ended.is_set():
                statuses.append((await ask(VIP, 80)).status)

        loads = [asyncio.ensure_future(load()) for _ in range(4)]
        for number in range(60):
            gone = f"- {{type: upstream_withdrawn, name: 'shop/u{number - 1}:80'}}\n" if number else ""
            await found.planned(upstream(f"u{number}", 8080) + host(rule("/", shares=f"[{{upstream: 'shop/u{number}:80'}}]")) + gone)
        ended.set()
        await asyncio.gather(*loads)
        assert len(statuses) > 60
        assert set(statuses) == {200}

    run(tmp_path, test)


async def grpc(path: str) -> str:
    """The head of the answer to a call."""
    command = ["curl", "-s", "--http2-prior-knowledge", "-D", "-", "-o", "/dev/null", "-X", "POST", "-H", "content-type: application/grpc"]
    done = await asyncio.to_thread(subprocess.run, [*command, f"http://{VIP}{path}"], capture_output=True, text=True, timeout=10)
    return done.stdout


def test_http2_and_grpc_reach_backends_that_speak_it(tmp_path: Path) -> None:
    """Another listener of the same Envoy stands for such a backend: it takes HTTP/2 with prior knowledge as well as HTTP/1.1."""
    match = "{path: {kind: Exact, value: /shop.Cart/Add}}"
    rules = f"    - {{route: GRPCRoute/shop/rpc, rule: '0', match: {match}, shares: [{{upstream: 'shop/h2:80'}}]}}\n"

    async def test(found: Proxy) -> None:
        inner = LISTENER.replace("port: 80,", "port: 8443,").replace(", '2001:db8::10'", "")
        h2 = upstream("h2", 8443, ", protocol: h2").replace("127.0.0.1", VIP)
        await found.planned(LISTENER + inner + host(rules) + host(rule("/"), port=8443) + WEB + h2)
        assert (await ask(VIP, 80, "/shop.Cart/Add", method="POST")).backend == "web"
        assert "HTTP/2 200" in await grpc("/shop.Cart/Add")
        assert "grpc-status: 12" in await grpc("/shop.Cart/Other"), "unimplemented"

    run(tmp_path, test)
