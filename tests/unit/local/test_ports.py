"""Ports that are handed out, to this process and to others."""

import random
import subprocess
import sys

import pytest

from infra.local.ports import free_ports

_ALIKE = "import random; from infra.local.ports import free_ports; print(free_ports(3, random.Random(7)))"


def test_ports_that_nobody_listens_on_yet_are_not_handed_out_twice() -> None:
    first = free_ports(5, random.Random(1))
    second = free_ports(5, random.Random(1))
    assert len({*first, *second}) == 10


@pytest.mark.skipif(sys.platform != "linux", reason="marks are names of Linux")
def test_another_process_gets_other_ports_while_this_one_may_still_use_its_own() -> None:
    own = free_ports(3, random.Random(7))
    asked = [sys.executable, "-c", _ALIKE]
    others = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60).stdout
    assert not {str(port) for port in own} & {*others.strip("[]\n").split(", ")}
