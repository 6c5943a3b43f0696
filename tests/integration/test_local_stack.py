"""The whole stack as tests get it: every part a process that can be killed, stopped and started."""

import pytest

from infra.local import probes
from infra.local.processes import alive, command_of
from tests.stack import LocalStack

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
PARTS = {
    "kafka": "java",
    "postgres": "postgres",
    "clickhouse": "infra.clickhouse.server",
    "simulator": "infra.simulator",
    "gateway": "services.gateway.main",
    "agent-worker-1": "services.agent_worker.main",
    "recorder": "services.recorder.main",
}


@pytest.mark.parametrize("part", PARTS)
def test_a_pid_file_names_the_process_itself(local_stack: LocalStack, part: str) -> None:
    assert PARTS[part] in command_of(local_stack.pid(part))


async def test_a_killed_gateway_comes_back_and_serves(local_stack: LocalStack) -> None:
    former = local_stack.kill("gateway")
    pid = await local_stack.back("gateway", former)
    assert alive(pid)
    assert not alive(former)
    await probes.ready(f"{local_stack.gateway}/readyz")


async def test_a_stopped_part_stays_away_until_started(local_stack: LocalStack) -> None:
    former = local_stack.pid("recorder")
    await local_stack.stop("recorder")
    assert not alive(former)
    await local_stack.start("recorder")
    assert alive(local_stack.pid("recorder"))
