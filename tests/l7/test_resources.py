"""Plan events in, Envoy's resources out.  A case is two files, `testdata/NAME.in.yaml` and `NAME.out.yaml`."""

import msgspec
import pytest
import yaml

from services.dataplane.l7.protobuf import Files
from services.dataplane.l7.resources import resources
from services.dataplane.l7.routes import literal
from tests.l7.plans import NAMES, TESTDATA, case

FILES = Files("/var/lib/weir/envoy", "/run/weir/sds")


@pytest.mark.parametrize("name", NAMES)
def test_plan_gives_the_resources(name: str, request: pytest.FixtureRequest) -> None:
    found = msgspec.to_builtins(resources(case(name), "n1", FILES))
    got = yaml.dump(found, Dumper=_Plain, sort_keys=False, width=1000, allow_unicode=True)
    path = TESTDATA / f"{name}.out.yaml"
    if request.config.getoption("--update-golden", default=False):
        path.write_text(got)
    assert got == path.read_text()


class _Plain(yaml.SafeDumper):
    """Without anchors for what occurs more than once."""

    def ignore_aliases(self, data: object) -> bool:
        return True


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("50%", "50%%"),
        ("%REQ(X-REQUEST-ID)%", "%REQ(X-REQUEST-ID)%"),
        ("a%RESPONSE_DURATION%b%", "a%RESPONSE_DURATION%b%%"),
        ("%REQ(AUTHORIZATION)%", "%%REQ(AUTHORIZATION)%%"),
        ("%ENVIRONMENT(HOME)%", "%%ENVIRONMENT(HOME)%%"),
    ],
)
def test_only_known_substitutions_of_header_values_take_place(value: str, expected: str) -> None:
    assert literal(value) == expected


def test_every_case_is_two_files() -> None:
    assert {path.name for path in TESTDATA.iterdir()} == {f"{name}.{end}.yaml" for name in NAMES for end in ("in", "out")}
