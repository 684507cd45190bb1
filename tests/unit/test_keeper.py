"""The log that Envoy appends to stays within its limit."""

from pathlib import Path

from services.dataplane.keeper import limit


def test_a_log_beyond_its_limit_is_put_aside_and_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "envoy.log"
    with log.open("ab", buffering=0) as appended:
        appended.write(b"x" * 90)
        limit(log, 100)
        assert log.stat().st_size == 90
        appended.write(b"y" * 20)
        limit(log, 100)
        appended.write(b"z")
    assert (log.read_bytes(), len((tmp_path / "envoy.log.1").read_bytes())) == (b"z", 110)


def test_a_full_disk_does_not_keep_it_from_being_emptied(tmp_path: Path) -> None:
    log = tmp_path / "envoy.log"
    log.write_bytes(b"x" * 200)
    (tmp_path / "envoy.log.1").mkdir()  # nothing can be written there
    limit(log, 100)
    assert log.stat().st_size == 0
