"""Custom tools in the worker: loaded from modules, run within bounds, every failure in words for the agent."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import msgspec
import pytest
from anthropic import beta_async_tool, beta_tool
from anthropic.lib.tools import ToolError

from services.agent_worker.provider.functions import load
from services.agent_worker.session import tools as rooms
from services.agent_worker.session.tools import NOTHING, Call, Result, Toolbox, called
from tests.builders import SESSION, TENANT, USER
from tests.e2e.examples import example

pytestmark = pytest.mark.unit


@pytest.fixture
def module() -> Iterator[ModuleType]:
    """A user's module, called `my_tools`."""
    made = ModuleType("my_tools")
    sys.modules[made.__name__] = made
    yield made
    del sys.modules[made.__name__]


def call(name: str, **given: Any) -> Call:
    return raw_call(name, msgspec.json.encode(given))


def raw_call(name: str, given: bytes) -> Call:
    return Call(
        tenant_id=TENANT,
        session_id=SESSION,
        user_id=USER,
        turn_id="t1",
        tool_use_id="sevt_1",
        name=name,
        input=msgspec.Raw(given),
    )


def box(module: ModuleType, *tools: Any, **bounds: Any) -> Toolbox:
    module.tools = list(tools)  # type: ignore[attr-defined]
    return Toolbox(load("my_tools:tools"), **bounds)


# ---- loaded ---------------------------------------------------------------------------------------------------


async def test_the_documents_example_is_loaded_declared_and_run(module: ModuleType) -> None:
    exec(example("docs/tools.md", "parcels.py"), module.__dict__)
    toolbox = Toolbox(load("my_tools:tools"))
    declared = {tool.name: tool.declaration for tool in toolbox}
    assert declared.keys() == {"where_is", "weigh"}
    assert declared["where_is"]["type"] == "custom"
    assert declared["where_is"]["description"] == "Say where a parcel is."
    assert declared["where_is"]["input_schema"]["required"] == ["parcel"]
    assert await toolbox.run(call("where_is", parcel="4711")) == Result("at the door")
    lost = await toolbox.run(call("where_is", parcel="1"))
    assert lost == Result("There is no parcel 1. Ask the customer for the number.", is_error=True)
    weight = await toolbox.run(call("weigh", parcel="4711", unit="lb"))
    assert weight == Result([{"type": "text", "text": "4711 weighs 2 lb"}])


@pytest.mark.parametrize(
    ("places", "words"),
    [
        ("my_tools", "is not package.module:name"),
        ("my_tools:nowhere", "has no 'nowhere'"),
        ("no.such.module:tools", "can't be imported: ModuleNotFoundError"),
        ("my_tools:plain", "put @beta_tool or @beta_async_tool"),
        ("my_tools:silent", "give it a docstring"),
        ("my_tools:said, my_tools:said", "two tools 'said'"),
        ("my_tools:odd", "letters, digits"),
    ],
)
def test_what_is_no_tool_is_told_by_its_place(module: ModuleType, places: str, words: str) -> None:
    def silent() -> str:
        return ""

    values = {
        "plain": silent,
        "silent": beta_tool(silent),
        "said": beta_tool(silent, name="said", description="Says."),
        "odd": beta_tool(silent, name="o d d", description="Odd."),
    }
    vars(module).update(values)
    with pytest.raises(ValueError, match="TURNSTILE_TOOLS: ") as caught:
        load(places)
    assert words in str(caught.value)


def test_no_tools_named_are_no_tools() -> None:
    assert load("") == []
    assert "anything" not in Toolbox(load(" , "))


# ---- run ------------------------------------------------------------------------------------------------------


@beta_async_tool
async def add(a: int, b: int) -> str:
    """Add."""
    return str(a + b)


@beta_async_tool
async def break_down() -> str:
    """Break."""
    raise KeyError("the drawer")


@beta_tool
def leave() -> str:
    """End the process."""
    raise SystemExit(3)


@beta_async_tool
async def for_ever() -> str:
    """Never end."""
    await asyncio.Event().wait()
    return "never"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (b'{"a": 1}', "wrong input: b: Missing"),
        (b'{"a": 1, "b": "two"}', "wrong input: b: Input should be a valid integer"),
        (b'{"a": 1, "b": 2, "c": 3}', "wrong input: c: Unexpected"),
        (b"[1, 2]", "the input must be a JSON object"),
        (b"{", "the input must be a JSON object"),
    ],
)
async def test_wrong_input_is_told_by_argument(
    module: ModuleType, given: bytes, words: str
) -> None:
    result = await box(module, add).run(raw_call("add", given))
    assert result.is_error
    assert words in str(result.content)


async def test_right_input_is_answered(module: ModuleType) -> None:
    assert await box(module, add).run(call("add", a=1, b=2)) == Result("3")


@pytest.mark.parametrize(
    ("tool", "words"), [(break_down, "KeyError: 'the drawer'"), (leave, "SystemExit in a tool")]
)
async def test_an_exception_is_a_result(module: ModuleType, tool: Any, words: str) -> None:
    result = await box(module, tool).run(call(tool.name))
    assert result.is_error
    assert words in str(result.content)


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        ("", Result(NOTHING)),
        (None, Result(NOTHING)),
        ([], Result(NOTHING)),
        (({"type": "text", "text": str(n)} for n in (1,)), Result([{"type": "text", "text": "1"}])),
    ],
)
async def test_an_answer_is_never_empty(module: ModuleType, answer: Any, result: Result) -> None:
    tool = beta_tool(lambda: answer, name="odd", description="Odd.")
    assert await box(module, tool).run(call("odd")) == result


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (42, "a tool answers text or content blocks, not int"),
        ({"weight": 2}, "not dict"),
        ("x" * rooms.MAX_RESULT_BYTES, "ask for less"),
    ],
)
async def test_an_answer_of_another_kind_is_an_error(
    module: ModuleType, answer: Any, words: str
) -> None:
    tool = beta_tool(lambda: answer, name="odd", description="Odd.")
    result = await box(module, tool).run(call("odd"))
    assert result.is_error
    assert words in str(result.content)


async def test_blocks_may_say_what_went_wrong(module: ModuleType) -> None:
    blocks = [{"type": "text", "text": "the page is empty"}]

    @beta_tool
    def show() -> str:
        """Show."""
        raise ToolError(blocks)  # type: ignore[arg-type]

    assert await box(module, show).run(call("show")) == Result(blocks, is_error=True)


async def test_a_tool_knows_which_call_it_serves(module: ModuleType) -> None:
    @beta_tool
    def who() -> str:
        """Say who asks."""
        return called.get().tool_use_id

    assert await box(module, who).run(call("who")) == Result("sevt_1")


# ---- bounds ---------------------------------------------------------------------------------------------------


async def test_a_tool_that_does_not_end_is_given_up_and_its_place_is_free(
    module: ModuleType,
) -> None:
    toolbox = box(module, for_ever, add, seconds=0.02, at_once=1)
    result = await toolbox.run(call("for_ever"))
    assert result == Result("no result within 0.02 s; it was given up", is_error=True)
    assert await toolbox.run(call("add", a=1, b=1)) == Result("2")


async def test_a_thread_that_does_not_end_keeps_its_place(module: ModuleType) -> None:
    end = threading.Event()

    @beta_tool
    def stuck() -> str:
        """Wait."""
        end.wait(10)
        return "late"

    toolbox = box(module, stuck, add, seconds=0.05, at_once=1)
    assert "no result" in str((await toolbox.run(call("stuck"))).content)
    busy = await toolbox.run(call("add", a=1, b=1))
    assert busy.is_error
    assert "too busy" in str(busy.content)
    end.set()
    async with asyncio.timeout(10):
        while (await toolbox.run(call("add", a=1, b=1))).is_error:
            pass  # each try waits for a place


async def test_no_more_tools_run_at_once_than_may(module: ModuleType) -> None:
    now, most = 0, 0

    @beta_async_tool
    async def count() -> str:
        """Count."""
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1
        return "done"

    toolbox = box(module, count, at_once=3)
    results = await asyncio.gather(*(toolbox.run(call("count")) for _ in range(20)))
    assert set(map(str, results)) == {str(Result("done"))}
    assert most == 3
