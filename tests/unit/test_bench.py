"""What the bench makes of samples: ratios, tables, the plot; and the peers' ruleset."""

from xml.etree import ElementTree

from bench.kube_proxy import ruleset
from bench.plot import bars
from bench.table import Row, Table, overview

TABLE = Table(
    title="HTTP",
    unit="requests/s",
    baseline="plain",
    rows=(Row("plain", (100.0, 50.0, 80.0)), Row("<tc>", (110.0, 55.0, 80.0)), Row("none", ())),
)


def test_ratios_are_taken_within_a_round_so_that_a_disturbed_round_disturbs_none() -> None:
    assert [round(ratio, 3) for ratio in TABLE.ratios(TABLE.rows[1])] == [1.1, 1.1, 1.0]


def test_a_row_without_samples_has_neither_median_nor_ratio() -> None:
    assert not TABLE.ratios(TABLE.rows[2])
    assert TABLE.markdown().splitlines()[-1].replace("|", "").split() == ["none"]


def test_tables_of_the_same_rows_are_shown_as_one() -> None:
    line = overview([TABLE, TABLE]).splitlines()[2]
    assert [cell.strip() for cell in line.split("|")] == ["", "HTTP, requests/s", "80", "80 (1.10)", "–", ""]
    assert overview([TABLE, Table(title="other", unit="s", rows=())]) == ""


def test_labels_cannot_break_the_plot() -> None:
    texts = [element.text for element in ElementTree.fromstring(bars([TABLE])).iter("{http://www.w3.org/2000/svg}text")]
    assert "<tc>" in texts
    assert "1.10" in texts


def test_only_the_cluster_policy_masquerades_every_flow() -> None:
    frontend = ("203.0.113.10", "tcp", 80, ("10.0.0.1", "10.0.0.2"))
    marked = "chain external-203.0.113.10-80 {\n\t\tjump mark-for-masquerade"
    assert marked in ruleset([frontend], masquerade=True)
    assert marked not in ruleset([frontend], masquerade=False)
    assert "numgen random mod 2 vmap" in ruleset([frontend], masquerade=False)
