"""Real files, real inotify, the tools that people edit with.  Nothing sleeps: each test waits for what the source says."""

import asyncio
import errno
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
from asyncinotify import Inotify

from services.watcher import inventory as said
from services.watcher.core import Watcher, differences
from services.watcher.edge import follow, nobody
from services.watcher.inventory import Observation
from services.watcher.sources import folder as folder_source
from services.watcher.sources import manifests as files
from services.watcher.sources.folder import FolderSource
from services.watcher.sources.inotify import Watches
from weir.decider import Fact, World
from weir.events import ManifestRejected, ServiceObserved

PATIENCE_S = 10
Test = Callable[[Path], Awaitable[None]]


def service(port: int = 80, name: str = "web") -> str:
    head = f"apiVersion: v1, kind: Service, metadata: {{namespace: shop, name: {name}}}"
    return f"{{{head}, spec: {{type: LoadBalancer, ports: [{{port: {port}}}]}}}}\n"


class Followed:
    """A source and the log it makes."""

    def __init__(self, *paths: Path) -> None:
        self.said, self.world = Watcher().inventory, World(Watcher.indexes)
        self.source = aiter(FolderSource(paths))
        self.told: list[str] = []

    async def __aenter__(self) -> "Followed":
        await self.step()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.source.aclose()  # type: ignore[attr-defined]

    async def step(self) -> Observation:
        """The next observation."""
        observation = await asyncio.wait_for(anext(self.source), PATIENCE_S)
        for event in differences(self.world, self.said, self.said.take(self.said.read(observation))):
            self.world.evolve(Fact(len(self.told) + 1, event))
            self.told.append(" ".join([type(event).__name__, *filter(None, event.entity())]))
        return observation

    async def until(self, told: str) -> None:
        """Steps until `told` is among the facts since."""
        before = len(self.told)
        while told not in self.told[before:]:
            await self.step()

    def ports(self) -> dict[str, int]:
        return {observed.root.name: observed.ports[0].port for observed in self.world.of(ServiceObserved)}

    def faults(self) -> dict[str, list[str]]:
        return {rejected.source: list(map(str, rejected.problems)) for rejected in self.world.of(ManifestRejected)}


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 4 * PATIENCE_S))  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "manifests"
    path.mkdir()
    (path / "web.yaml").write_text(service())
    (path / "notes.txt").write_text("not ours")
    (path / ".web.yaml.swp").write_text("\x00")
    (path / ".hidden.yaml").write_text("{")
    return path


def test_the_first_observation_is_all_there_is(folder: Path) -> None:
    async def test() -> None:
        (folder / "a.json").write_text('{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}')
        (folder / "b.yml").write_text(service(81, "other"))
        (folder / "deeper").mkdir()
        (folder / "deeper" / "c.yaml").write_text(service(82, "deep"))
        async with Followed(folder) as followed:
            assert followed.told == ["NamespaceObserved shop", "ServiceObserved shop other", "ServiceObserved shop web"]
            assert followed.world.of(ServiceObserved)[1].root.place == "manifests/web.yaml#1"

    run(test)


def test_only_the_file_that_changed_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        for i in range(20):
            (folder / f"{i}.yaml").write_text(service(80, f"s{i}"))
        async with Followed(folder) as followed:
            read: list[Path] = []
            content = files.content
            monkeypatch.setattr(files, "content", lambda path: read.append(path) or content(path))
            (folder / "7.yaml").write_text(service(81, "s7"))
            await followed.until("ServiceObserved shop s7")
            assert set(read) == {folder / "7.yaml"}

    run(test)


VIM = shutil.which("vim") or shutil.which("vim.tiny")
SAVES = {
    "echo >": "printf '%s' '{text}' > web.yaml",
    "echo > and >>": ": > web.yaml; printf '%s' '{text}' >> web.yaml",
    "sed -i": "sed -i 's/port: 80/port: 81/' web.yaml",
    "vim": f"{VIM} -n -es -u NONE -c 'set backup backupcopy=no' -c '%s/port: 80/port: 81/' -c wq web.yaml",
    "vim, in place": f"{VIM} -n -es -u NONE -c 'set backupcopy=yes' -c '%s/port: 80/port: 81/' -c wq web.yaml",
    "mv": "printf '%s' '{text}' > new; mv new web.yaml",
    "git checkout": "rm web.yaml; printf '%s' '{text}' > web.yaml",
    "ln": "printf '%s' '{text}' > new; rm web.yaml; ln new web.yaml",
    "ln -s": "printf '%s' '{text}' > new; ln -sf new web.yaml",
    "cp": "printf '%s' '{text}' > ../new; cp ../new web.yaml",
}


@pytest.mark.parametrize("command", SAVES.values(), ids=SAVES)
def test_however_a_file_is_saved_its_objects_are_never_withdrawn(folder: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_source, "AWAY_S", 60)  # however slow this machine is

    async def test() -> None:
        if command.startswith("None "):
            pytest.skip("needs vim")
        async with Followed(folder) as followed:
            shell = await asyncio.create_subprocess_shell(
                command.replace("{text}", service(81)), cwd=folder, stdin=asyncio.subprocess.DEVNULL
            )
            await shell.wait()
            while followed.ports() != {"web": 81}:
                await followed.step()
            (folder / "end.yaml").write_text(service(1, "end"))
            await followed.until("ServiceObserved shop end")
            assert set(followed.told) == {"ServiceObserved shop web", "ServiceObserved shop end"}

    run(test)


def test_a_file_that_is_being_written_is_not_read_however_long_it_takes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_source, "AWAY_S", 0)

    async def test() -> None:
        async with Followed(folder) as followed:
            (folder / "web.yaml").unlink()
            writer = (folder / "web.yaml").open("w")
            writer.write(service(81)[:40])
            writer.flush()
            (folder / "other.yaml").write_text(service(1, "other"))
            await followed.until("ServiceObserved shop other")
            writer.write(service(81)[40:])
            writer.close()
            await followed.until("ServiceObserved shop web")
            assert followed.ports() == {"web": 81, "other": 1}
            assert not any("Gone" in told or "Rejected" in told for told in followed.told)

    run(test)


@pytest.mark.parametrize("away", [Path.unlink, partial(Path.write_text, data="")], ids=["away", "empty"])
def test_what_is_away_or_empty_for_a_moment_does_not_count(
    folder: Path, away: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_source, "AWAY_S", 60)

    async def test() -> None:
        async with Followed(folder) as followed:
            away(folder / "web.yaml")
            (folder / "other.yaml").write_text(service(1, "other"))
            await followed.until("ServiceObserved shop other")
            (folder / "web.yaml").write_text(service(81))
            await followed.until("ServiceObserved shop web")
            assert not any("Gone" in told or "Rejected" in told for told in followed.told)

    run(test)


def test_a_deleted_file_takes_its_objects_away_and_a_renamed_one_does_not(folder: Path) -> None:
    (folder / "kept.yaml").write_text("# a folder without any file counts as lost\n")

    async def test() -> None:
        async with Followed(folder) as followed:
            (folder / "web.yaml").rename(folder / "shop.yaml")
            while followed.world.of(ServiceObserved)[0].root.place != "manifests/shop.yaml#1":
                await followed.step()
            assert "ServiceGone shop web" not in followed.told
            (folder / "shop.yaml").unlink()
            await followed.until("ServiceGone shop web")
            (folder / "shop.yaml").write_text(service())
            await followed.until("ServiceObserved shop web")
            (folder / "shop.yaml").rename(folder / "shop.yaml.off")
            await followed.until("ServiceGone shop web")

    run(test)


@pytest.mark.parametrize("again", [False, True], ids=["emptied", "made again and still empty"])
def test_a_folder_that_is_emptied_keeps_what_it_said_until_it_is_filled(folder: Path, again: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_source, "AWAY_S", 0)
    (folder / "other.yaml").write_text(service(81, "other"))

    async def test() -> None:
        async with Followed(folder) as followed:
            if again:
                shutil.rmtree(folder)
                folder.mkdir()
            else:
                for file in folder.iterdir():
                    file.unlink()
            await followed.until("ManifestRejected manifests")
            while "no manifest in it" not in str(followed.faults()):
                await followed.step()
            assert followed.ports() == {"web": 80, "other": 81}
            with pytest.raises(TimeoutError):  # it is looked at again every so often, and nothing is new
                async with asyncio.timeout(3 * folder_source.RETRY_FIRST_S + 1):
                    await anext(followed.source)
            followed.source = aiter(FolderSource([folder]))
            (folder / "other.yaml").write_text(service(82, "other"))
            while followed.ports() != {"other": 82}:
                await followed.step()
            assert followed.faults() == {}

    run(test)


def test_half_a_file_or_an_emptied_one_keeps_what_it_said(folder: Path) -> None:
    async def test() -> None:
        async with Followed(folder) as followed:
            (folder / "web.yaml").write_text(service()[:40])
            await followed.until("ManifestRejected manifests/web.yaml#1")
            assert followed.ports() == {"web": 80}
            (folder / "web.yaml").write_text("\n")
            await followed.until("ManifestAccepted manifests/web.yaml#1")
            assert followed.faults() == {
                "manifests/web.yaml": [
                    "file: got an empty file, accepted: at least one document; what was last read is kept until the file is deleted"
                ]
            }
            assert followed.ports() == {"web": 80}
            (folder / "web.yaml").write_text("# nothing any more\n")
            await followed.until("ManifestAccepted manifests/web.yaml")
            assert followed.ports() == {}

    run(test)


def unreadable(path: Path, how: str) -> None:
    path.unlink()
    {"a directory": path.mkdir, "a pipe": partial(os.mkfifo, path), "a loop": partial(path.symlink_to, path)}[how]()


@pytest.mark.parametrize(
    ("how", "why"),
    [("a directory", "Not a regular file"), ("a pipe", "Not a regular file"), ("a loop", "Too many levels of symbolic links")],
)
def test_what_cannot_be_read_is_told_and_stands_over_a_restart(folder: Path, how: str, why: str) -> None:
    async def test() -> None:
        async with Followed(folder) as followed:
            world = followed.world
        unreadable(folder / "web.yaml", how)
        again = Followed(folder)
        again.world = world
        async with again:
            assert again.faults() == {"manifests/web.yaml": [f"file: got {why}, accepted: a readable file; what was last read is kept"]}
            assert again.ports() == {"web": 80}

    run(test)


def test_a_link_to_nothing_is_told_and_read_once_it_leads_somewhere(folder: Path) -> None:
    async def test() -> None:
        async with Followed(folder) as followed:
            (folder / "new.yaml").symlink_to(folder.parent / "target")
            await followed.until("ManifestRejected manifests/new.yaml")
            (folder.parent / "target").write_text(service(81, "new"))
            (folder / "again").symlink_to(folder.parent / "target")
            (folder / "again").rename(folder / "new.yaml")
            await followed.until("ManifestAccepted manifests/new.yaml")
            assert followed.ports() == {"web": 80, "new": 81}

    run(test)


def test_a_file_is_read_once_its_mode_allows_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def content(path: Path) -> bytes:  # root could read it whatever its mode
        if not path.stat().st_mode & 0o400:
            raise PermissionError(errno.EACCES, "Permission denied")
        return path.read_bytes()

    async def test() -> None:
        monkeypatch.setattr(files, "content", content)
        (folder / "web.yaml").chmod(0)
        async with Followed(folder) as followed:
            assert followed.faults() == {
                "manifests/web.yaml": ["file: got Permission denied, accepted: a readable file; what was last read is kept"]
            }
            (folder / "web.yaml").chmod(0o600)
            await followed.until("ManifestAccepted manifests/web.yaml")
            assert followed.ports() == {"web": 80}

    run(test)


def test_a_folder_that_vanishes_keeps_what_it_said_and_is_followed_again(folder: Path) -> None:
    async def test() -> None:
        async with Followed(folder) as followed:
            shutil.rmtree(folder)
            await followed.until("ManifestRejected manifests")
            assert followed.ports() == {"web": 80}
            assert followed.faults() == {
                "manifests": ["folder: got No such file or directory, accepted: a folder with manifests; what was last read is kept"]
            }
            folder.mkdir()
            await followed.until("ManifestAccepted manifests")
            (folder / "other.yaml").write_text(service(81, "other"))
            while followed.ports() != {"other": 81}:
                await followed.step()
            (folder / "other.yaml").write_text(service(82, "other"))
            await followed.until("ServiceObserved shop other")

    run(test)


def test_a_folder_that_is_empty_at_the_start_takes_nothing_away(folder: Path) -> None:
    async def test() -> None:
        async with Followed(folder) as before:
            world = before.world
        text = (folder / "web.yaml").read_text()
        (folder / "web.yaml").unlink()  # as if what holds them were not mounted yet
        after = Followed(folder)
        after.world = world
        async with after:
            assert after.ports() == {"web": 80}
            told = "folder: got no manifest in it, accepted: a folder with manifests; what was last read is kept"
            assert after.faults() == {"manifests": [told]}
            (folder / "web.yaml").write_text(text)
            await after.until("ManifestAccepted manifests")
            assert after.ports() == {"web": 80}
            assert "ServiceGone shop web" not in after.told

    run(test)


def test_files_of_a_folder_that_returns_have_a_moment_to_return_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with Followed(folder) as followed:
            monkeypatch.setattr(folder_source, "AWAY_S", 0)
            shutil.rmtree(folder)
            await followed.until("ManifestRejected manifests")
            monkeypatch.setattr(folder_source, "AWAY_S", 60)
            folder.mkdir()
            await followed.until("ManifestAccepted manifests")
            assert followed.ports() == {"web": 80}
            (folder / "web.yaml").write_text(service(81))
            await followed.until("ServiceObserved shop web")
            assert "ServiceGone shop web" not in followed.told

    run(test)


def test_a_folder_and_its_parent_that_vanish_are_found_again(folder: Path, tmp_path: Path) -> None:
    async def test() -> None:
        inner = folder / "inner"
        inner.mkdir()
        (inner / "a.yaml").write_text(service(81, "inner"))
        async with Followed(inner) as followed:
            folder.rename(tmp_path / "moved")
            await followed.until("ManifestRejected inner")
            inner.mkdir(parents=True)
            (inner / "a.yaml").write_text(service(82, "inner"))
            while followed.ports() != {"inner": 82}:
                await followed.step()
            (inner / "a.yaml").write_text(service(83, "inner"))
            while followed.ports() != {"inner": 83}:
                await followed.step()

    run(test)


def test_a_directory_that_was_replaced_is_no_longer_heard_and_nothing_spins_meanwhile(tmp_path: Path) -> None:
    async def test() -> None:
        first, second, link = tmp_path / "first", tmp_path / "second", tmp_path / "link"
        first.mkdir()
        second.mkdir()
        with Inotify(sync_timeout=0) as inotify:
            watches = Watches(inotify)
            for target in (first, second):
                link.unlink(missing_ok=True)
                link.symlink_to(target)
                watches.add(link)
            watches.drain()
            (first / "a.yaml").touch()
            assert watches.drain() == []
            (second / "a.yaml").touch()
            await watches.wait(None)
            assert not asyncio.get_running_loop().remove_reader(inotify.fd), "the loop would call it until it is drained"
            assert {touch.path for touch in watches.drain()} == {link / "a.yaml"}

    run(test)


def test_a_folder_replaced_by_another_is_followed(folder: Path, tmp_path: Path) -> None:
    async def test() -> None:
        for i, port in ((1, 81), (2, 82)):
            (tmp_path / f"release{i}").mkdir()
            (tmp_path / f"release{i}" / "web.yaml").write_text(service(port))
        current = tmp_path / "current"
        current.symlink_to("release1")
        async with Followed(current) as followed:
            assert followed.ports() == {"web": 81}
            (tmp_path / "next").symlink_to("release2")
            (tmp_path / "next").rename(current)
            await followed.until("ServiceObserved shop web")
            assert followed.ports() == {"web": 82}
            (tmp_path / "release1" / "web.yaml").write_text(service(1))
            (current / "web.yaml").write_text(service(83))
            while followed.ports() != {"web": 83}:
                await followed.step()
            assert "ServiceGone shop web" not in followed.told

    run(test)


def swap(mount: Path, version: str, files: dict[str, str]) -> None:
    """What kubelet's atomic writer does on each update of a ConfigMap."""
    (mount / version).mkdir()
    for name, text in files.items():
        (mount / version / name).write_text(text)
    (mount / "..data_tmp").symlink_to(version)
    (mount / "..data_tmp").rename(mount / "..data")
    for name in files:
        if not (mount / name).is_symlink():
            (mount / name).symlink_to(f"..data/{name}")


@pytest.mark.parametrize("given", ["mount", "mount/web.yaml"])
def test_a_mounted_config_map_is_followed(tmp_path: Path, given: str) -> None:
    async def test() -> None:
        (tmp_path / "mount").mkdir()
        swap(tmp_path / "mount", "..1", {"web.yaml": service(81)})
        async with Followed(tmp_path / given) as followed:
            assert followed.ports() == {"web": 81}
            swap(tmp_path / "mount", "..2", {"web.yaml": service(82)})
            await followed.until("ServiceObserved shop web")
            assert followed.ports() == {"web": 82}
            assert set(followed.told) == {"ServiceObserved shop web"}

    run(test)


def test_a_given_file_is_followed_alone_and_its_absence_is_told(folder: Path) -> None:
    async def test() -> None:
        async with Followed(folder / "web.yaml") as followed:
            (folder / "other.yaml").write_text(service(1, "other"))
            (folder / "web.yaml").write_text(service(81))
            await followed.until("ServiceObserved shop web")
            assert followed.world.of(ServiceObserved)[0].root.place == "web.yaml#1"
            assert followed.ports() == {"web": 81}
            (folder / "web.yaml").unlink()
            await followed.until("ManifestRejected web.yaml")
            assert followed.faults() == {
                "web.yaml": ["file: got No such file or directory, accepted: a readable file; what was last read is kept"]
            }
            assert followed.ports() == {"web": 81}
            (folder / "web.yaml").write_text(service(82))
            await followed.until("ManifestAccepted web.yaml")

    run(test)


def test_a_given_file_is_found_again_when_its_folder_returns(folder: Path, tmp_path: Path) -> None:
    async def test() -> None:
        async with Followed(folder / "web.yaml") as followed:
            folder.rename(tmp_path / "moved")
            await followed.until("ManifestRejected web.yaml")
            folder.mkdir()
            (folder / "web.yaml").write_text(service(81))
            await followed.until("ManifestAccepted web.yaml")
            assert followed.ports() == {"web": 81}

    run(test)


def test_paths_that_are_not_there_yet_are_told_and_followed_once_they_are(tmp_path: Path) -> None:
    async def test() -> None:
        async with Followed(tmp_path / "later", tmp_path / "one.yaml") as followed:
            assert list(followed.faults()) == ["later", "one.yaml"]
            (tmp_path / "later").mkdir()
            (tmp_path / "later" / "web.yaml").write_text(service(81))
            (tmp_path / "one.yaml").write_text(service(82, "one"))
            while followed.faults() or followed.ports() != {"web": 81, "one": 82}:
                await followed.step()

    run(test)


def test_names_of_files_are_shown_escaped(folder: Path) -> None:
    async def test() -> None:
        (folder / "\x1b[31m#.yaml").write_text("{")
        Path(os.fsdecode(os.fsencode(folder) + b"/\xff.yaml")).write_text("{")
        async with Followed(folder) as followed:
            assert list(followed.faults()) == ["manifests/\\udcff.yaml#1", "manifests/\\x1b[31m\\x23.yaml#1"]

    run(test)


def test_when_the_kernel_loses_count_everything_is_looked_at_again(folder: Path) -> None:
    async def test() -> None:
        most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
        async with Followed(folder) as followed:
            for _ in range(most // 2 + 1):
                (folder / "notes.txt").chmod(0o600)
                (folder / "web.yaml").chmod(0o600)  # two files in turn: equal events in a row count once
            (folder / "late.yaml").write_text(service(81, "late"))
            await followed.until("ServiceObserved shop late")
            (folder / "web.yaml").unlink()
            await followed.until("ServiceGone shop web")

    run(test)


def test_following_tells_the_log_each_difference_until_it_has_it(folder: Path) -> None:
    class Runner:
        def __init__(self) -> None:
            self.world, self.told = World(Watcher.indexes), asyncio.Queue[str]()

        async def propose(self, decide: Callable[[World], list]) -> None:
            assert list(map(str, decide(self.world))) == list(map(str, decide(self.world))), "a refused proposal is made again"
            for event in decide(self.world):
                self.world.evolve(Fact(1, event))
                self.told.put_nowait(type(event).__name__)

    async def test() -> None:
        runner = Runner()
        task = asyncio.create_task(follow(FolderSource([str(folder)]), Watcher().inventory, nobody, runner))
        assert await asyncio.wait_for(runner.told.get(), PATIENCE_S) == "ServiceObserved"
        (folder / "web.yaml").write_text(service(0))
        assert await asyncio.wait_for(runner.told.get(), PATIENCE_S) == "ManifestRejected"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(test)


def test_files_and_documents_are_read_beside_the_loop(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: dict[str, threading.Thread] = {}

    def spied(function: Callable) -> Callable:
        def spy(*arguments: object) -> object:
            called[function.__name__] = threading.current_thread()
            return function(*arguments)

        return spy

    class Runner:
        async def propose(self, decide: Callable[[World], list]) -> None:
            told.set()

    async def test() -> None:
        task = asyncio.create_task(follow(FolderSource([str(folder)]), Watcher().inventory, nobody, Runner()))
        await told.wait()
        task.cancel()

    told = asyncio.Event()
    for module, function in ((files, files.content), (files, files.documents), (said, said.read)):
        monkeypatch.setattr(module, function.__name__, spied(function))
    run(test)
    assert set(called) == {"content", "documents", "read"}
    assert threading.main_thread() not in called.values()


def test_the_examples_are_accepted_whole() -> None:
    async def test() -> None:
        examples = Path(__file__).parents[2] / "examples"
        async with Followed(examples, *(path for path in examples.iterdir() if path.is_dir())) as followed:
            assert followed.faults() == {}
            services = followed.world.of(ServiceObserved)
            assert {"web", "tcp-lb"} <= {observed.root.name for observed in services if observed.exposed}
            inner = {observed.root.name for observed in services if not observed.exposed and observed.root.namespace != "store"}
            assert inner == {"blue", "green", "db"}, "of a Gateway; those of Ingresses are in a namespace of their own"
            assert not any(observed.unsupported for observed in services)

    run(test)


def test_nothing_to_follow_is_refused() -> None:
    with pytest.raises(ValueError, match="no path to follow"):
        FolderSource([])


FOLLOWING = """
import asyncio, sys
from services.watcher.sources.folder import FolderSource

async def main():
    open("/proc/sys/user/max_inotify_instances", "w").write("0")
    async for seen in aiter(FolderSource(sys.argv[1:])):
        for unit, documents in seen.units.items():
            print(unit, documents[0].content["spec"]["ports"][0]["port"] if documents else "gone", flush=True)

asyncio.run(main())
"""


def test_where_the_kernel_gives_no_inotify_the_files_are_looked_at_again_and_again(folder: Path) -> None:
    """In a user namespace of its own, which has a limit of its own."""
    if os.geteuid():
        pytest.skip("a user namespace with its own limits needs root")
    (folder / "other.yaml").write_text(service(name="other"))
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", FOLLOWING, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as following:
        assert following.stdout
        lines = iter(following.stdout)
        try:
            assert any("fs.inotify.max_user_instances" in line for line in lines)
            assert any(line == "manifests/web.yaml 80\n" for line in lines)
            (folder / "web.yaml").write_text(service(81))
            assert any(line == "manifests/web.yaml 81\n" for line in lines)
            (folder / "other.yaml").unlink()
            assert any(line == "manifests/other.yaml gone\n" for line in lines)
            raised = ["nsenter", f"--user=/proc/{following.pid}/ns/user", "sysctl", "-qw", "user.max_inotify_instances=9"]
            subprocess.run(raised, check=True)
            assert any("inotify_given" in line for line in lines)
            (folder / "web.yaml").write_text(service(82))
            assert any(line == "manifests/web.yaml 82\n" for line in lines)
        finally:
            following.kill()
