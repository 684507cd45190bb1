"""What a restore that fails leaves."""

from pathlib import Path

import pytest

from weir.cli.box.backup import _in_place_of


@pytest.mark.parametrize("held", [{"nats": "now"}, {"nats.before": "earlier"}, {}], ids=["a log", "a log put aside earlier", "none"])
def test_a_restore_that_fails_leaves_what_was_there(tmp_path: Path, held: dict[str, str]) -> None:
    for name, content in held.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "stream").write_text(content)

    def restore() -> None:
        with _in_place_of(tmp_path / "nats", tmp_path / "nats.before"):
            (tmp_path / "nats").mkdir()
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        restore()
    assert {path.parent.name: path.read_text() for path in tmp_path.glob("*/stream")} == held
