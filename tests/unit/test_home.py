"""A cluster is known by its name: the order of options changes nothing in the log."""

import pytest

from services.watcher.core import Watcher
from services.watcher.home import Home, HomeError
from services.watcher.sources.kube import Kube
from services.watcher.writer.queue import Marks
from weir.decider import Fact, Fold, World
from weir.events import HomeNamed


def prefixes(world: World, *names: str) -> dict[str, str]:
    clusters = [Kube(name, None) for name in names]
    Home(clusters).read(world)
    return {cluster.name: cluster.source for cluster in clusters}


def following(*names: str) -> World:
    """A log whose first watcher followed these clusters."""
    home = Home([Kube(name, None) for name in names])
    fold = Fold(Watcher(scopes=[f"@{name}" for name in names], home=lambda: home.name), "watcher")
    home.read(fold.world)
    (named,) = fold.caught_up()
    assert named.event == HomeNamed(cluster=names[0])
    fold.acked([named], 1)
    assert fold.caught_up() == [], "it is recorded once"
    return fold.world


def test_the_first_cluster_that_a_log_ever_followed_has_no_prefix_whatever_the_order_later() -> None:
    assert prefixes(World(), "east", "west") == {"east": "", "west": "west"}
    assert prefixes(following("east", "west"), "west", "east") == {"east": "", "west": "west"}
    assert prefixes(following("east"), "west") == {"west": "west"}, "one that is retired takes its names along"


def test_nodes_are_told_in_the_cluster_without_a_prefix_and_nowhere_where_it_is_retired() -> None:
    marks = Marks()
    clusters = [Kube("west", None, marks), Kube("east", None, marks)]
    Home(clusters).read(following("east"))
    assert marks.home == "@east"
    clusters[1].source = "east"
    assert marks.home == ""


def test_a_log_that_names_another_cluster_meanwhile_ends_the_process() -> None:
    home, world = Home([Kube("west", None), Kube("east", None)]), World()
    home.read(world)
    world.evolve(Fact(1, HomeNamed(cluster="east")))
    with pytest.raises(HomeError, match="the log has the names of cluster east without a prefix, not those of west"):
        home.read(world)
