"""What `weir check` and `weir up` warn about on this machine."""

import os
import subprocess
import sys

import pytest

CHECK = """
import sys
from weir.cli.box.check import risks
from weir.where import Where
open("/proc/sys/user/max_inotify_instances", "w").write(sys.argv[1])
print(*risks(Where("weirnone")), sep="\\n")
"""


@pytest.mark.parametrize(("instances", "warned"), [("0", 1), ("9", 0)])
def test_it_is_said_where_no_inotify_is_left(instances: str, warned: int) -> None:
    """In a user namespace of its own, which has a limit of its own."""
    if os.geteuid():
        pytest.skip("a user namespace with its own limits needs root")
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", CHECK, instances]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert sum("raise fs.inotify.max_user_instances" in line for line in told) == warned, told
