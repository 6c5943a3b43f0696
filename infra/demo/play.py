"""`make demo`: replies as they stream, the rows that landed, one turn's trace.

The stack is the demo's own: free ports, a state folder under the system's temporary folder, the
simulator as provider whatever keys the environment holds. Nothing of it is left afterwards.
"""

import asyncio
import secrets
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from infra.clients.archive import ArchiveClient
from infra.clients.gateway import Gateway, UnexpectedAnswer
from infra.demo.archive import Landed
from infra.demo.conversations import load_conversations
from infra.demo.stage import Stage
from infra.demo.talk import DemoFailed, Talk, play
from infra.demo.tree import tree
from infra.local.addresses import Addresses, addresses_of
from infra.local.errors import StackError
from infra.local.keys import load_keys
from infra.local.part import Say
from infra.local.settings import own_settings
from infra.local.supervisor import StopRequested, supervised

_SHOWN_TRACE = "log-hunt"  # the conversation with the most to see in its trace
_WHOLE_TIMEOUT_S = 300.0


def demo(say: Say) -> int:
    """Run the demo; 0 when everything was shown, 1 when something was missing (and says what)."""
    root = Path(tempfile.mkdtemp(prefix="turnstile-demo-"))
    try:
        asyncio.run(_demo(root, say))
    except (DemoFailed, UnexpectedAnswer, StackError, TimeoutError) as error:
        kept = root.with_name(f"{root.name}-logs")
        shutil.copytree(root / "log", kept, dirs_exist_ok=True)
        say(f"demo failed: {error or 'no end in time'}; logs kept in {kept}")
        return 1
    except StopRequested:
        say("demo stopped")
        return 130
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return 0


async def _demo(root: Path, say: Say) -> None:
    settings = own_settings(root)
    began = time.monotonic()
    async with supervised(settings, say) as supervisor:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, supervisor.request_stop)
        keys = load_keys(settings)
        await supervisor.start(keys)
        say(f"stack up after {time.monotonic() - began:.1f} s")
        show = asyncio.ensure_future(_show(addresses_of(settings), keys.first))
        stopping = asyncio.ensure_future(supervisor.wait())
        await asyncio.wait(
            {show, stopping}, timeout=_WHOLE_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED
        )
        stopping.cancel()
        if not show.done():
            show.cancel()
            raise StopRequested if supervisor.stopping else DemoFailed("no end in time")
        await show
        say("stopping the stack")


async def _show(addresses: Addresses, key: str) -> None:
    began = time.monotonic()
    archive = Landed(ArchiveClient(addresses.clickhouse_url))
    async with Gateway(addresses.gateway, key) as gateway:
        talks = await _play_all(gateway)
        turns = sum(len(talk.turn_ids) for talk in talks)
        _write(f"\n{turns} turns in {time.monotonic() - began:.1f} s, all completed\n")
        _write("\n══ rows in ClickHouse: turn_facts, then events by type\n\n")
        _write(await archive.show(gateway, talks) + "\n")
        talk = next(t for t in talks if t.conversation.conversation_id == _SHOWN_TRACE)
        turn = await gateway.get(f"/v1/sessions/{talk.session_id}/turns/{talk.turn_ids[0]}")
        if not turn["trace_id"]:
            raise DemoFailed(f"{talk.session_id} {talk.turn_ids[0]} has no trace_id")
        spans = await archive.spans(turn["trace_id"])
        _write(f"\n══ trace {turn['trace_id']}: start, duration, span\n\n{tree(spans)}\n")


async def _play_all(gateway: Gateway) -> list[Talk]:
    """All conversations at once, printed one after the other."""
    conversations = load_conversations()
    run = secrets.token_hex(3)
    names = [conversation.conversation_id for conversation in conversations]
    stage = Stage(_write, names)

    async def one(name: str, index: int) -> Talk:
        conversation = conversations[index]
        talk = await play(gateway, conversation, run, lambda text: stage.speak(name, text))
        stage.finish(name)
        return talk

    return await asyncio.gather(*(one(name, index) for index, name in enumerate(names)))


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
