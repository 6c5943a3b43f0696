"""The report of a rerun: one page of HTML that needs nothing else. Pure.

What users and agents wrote is escaped wherever it stands, and the page allows no script at all.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from services.operator.line import text_of
from services.operator.past import ToldTurn
from services.operator.printable import short
from services.operator.reruns.compare import MAX_WORDS, Pair, seconds, summary, tools

STYLE = (Path(__file__).parent / "report.css").read_text()
SNIPPET = 120
NO_SCRIPT = "default-src 'none'; style-src 'unsafe-inline'"


def page(found: Sequence[Pair], *, run: str, agent: str, at: str, ended: str) -> str:
    """The report. `ended` says why the run is over: `done`, `budget` or `stopped`."""
    title = f"Rerun {run}"
    body = [
        f"<h1>{_safe(title)}</h1>",
        f'<p class="about">The recorded turns, sent again to agent <b>{_safe(agent)}</b>. {_safe(at)}</p>',
        _notice(ended, found),
        _cards(summary(found)),
        _otherwise(found),
    ]
    for session, its in groupby(found, key=lambda pair: pair.session):
        turns = list(its)
        body.append(f"<h2>{_safe(session)} <small>again as {_safe(turns[0].shadow)}</small></h2>")
        body += [_turn(pair) for pair in turns]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{NO_SCRIPT}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_safe(title)}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(filter(None, body))
        + "\n</body></html>\n"
    )


def _notice(ended: str, found: Sequence[Pair]) -> str:
    left = sum(pair.rerun is None for pair in found)
    if not left:
        return ""
    why = {"budget": "the budget would not have lasted", "stopped": "it was stopped"}
    words = (
        f"{left} of {len(found)} turns were not run again: {why.get(ended, 'they have not ended')}."
    )
    return f'<p class="notice" role="status">{_safe(words)}</p>'


def _cards(sums: dict[str, Any]) -> str:
    was, now, count = sums["recorded"], sums["rerun"], sums["compared"]
    cards = [
        ("turns compared", f"{count}", f"of {sums['turns']}, in {sums['sessions']} sessions"),
        ("same outcome", _share(sums["same_outcome"], count), f"{sums['same_outcome']} turns"),
        ("similarity of replies", _ratio(sums["mean_similarity"]), f"{sums['same_reply']} word for word"),
        ("same tools", _share(sums["same_tools"], count), f"{was['tool_calls']} calls → {now['tool_calls']}"),
        ("cost", _dollars(now["cost_usd"]), f"was {_dollars(was['cost_usd'])}{_change(was, now, 'cost_usd')}"),
        ("seconds, median", _seconds(now["median_seconds"]),
         f"was {_seconds(was['median_seconds'])}{_change(was, now, 'median_seconds')}"),
        ("tokens written", f"{now['output_tokens']:,}",
         f"was {was['output_tokens']:,}{_change(was, now, 'output_tokens')}"),
    ]  # fmt: skip
    shown = "".join(
        f"<div><dt>{_safe(name)}</dt><dd>{_safe(value)} <small>{_safe(more)}</small></dd></div>"
        for name, value, more in cards
    )
    return f'<dl class="cards">{shown}</dl>'


def _otherwise(found: Sequence[Pair]) -> str:
    """Links to the turns that ended otherwise."""
    others = [pair for pair in found if pair.rerun is not None and not pair.same_outcome]
    if not others:
        return ""
    links = ", ".join(
        f'<a href="#{_anchor(pair)}">{_safe(pair.session)} turn {pair.place}</a>' for pair in others
    )
    return f"<h2>Another outcome</h2><p>{links}</p>"


def _turn(pair: Pair) -> str:
    was, now = pair.recorded, pair.rerun
    text = text_of(was.content)
    cells = [
        f"<span>{pair.place}</span>",
        f'<span class="said">{_safe(short(text, SNIPPET))}</span>',
        _outcome(pair),
        f"<span>{_ratio(pair.similarity)} <small>alike</small></span>",
        f"<span>{_both(_dollars(was.turn.cost_usd), _dollars(now.turn.cost_usd) if now else None)}</span>",
        f"<span>{_both(_seconds(seconds(was)), _seconds(seconds(now)) if now else None)}</span>",
    ]
    return (
        f'<details class="turn" id="{_anchor(pair)}"><summary>{"".join(cells)}</summary>'
        f'<div class="sides"><section class="wide"><h3>The user</h3><pre>{_safe(text)}</pre></section>'
        f"{_sides(was, now)}</div></details>"
    )


def _outcome(pair: Pair) -> str:
    was = pair.recorded.turn.status
    if pair.rerun is None:
        return f"<span>{_safe(was)} → <small>not run again</small></span>"
    if pair.same_outcome:
        return f'<span><span class="badge same">{_safe(was)}</span></span>'
    return f'<span><span class="badge other">{_safe(was)} → {_safe(pair.rerun.turn.status)}</span></span>'


def _sides(was: ToldTurn, now: ToldTurn | None) -> str:
    left, right = _marked(was.turn.reply or "", (now and now.turn.reply) or "")
    sides = [("Recorded", was, left)]
    if now is not None:
        sides.append(("Rerun", now, right))
    return "".join(
        f"<section><h3>{name} · {_safe(told.model or told.agent or '?')}</h3><pre>{reply}</pre>"
        f"<p><small>{_safe(_facts(told))}</small></p></section>"
        for name, told, reply in sides
    )


def _facts(told: ToldTurn) -> str:
    turn = told.turn
    error = f"{turn.error.type}: {turn.error.message}. " if turn.error else ""
    called = ", ".join(tools(told)) or "none"
    used = f"{turn.usage.input_tokens:,} tokens in, {turn.usage.output_tokens:,} out"
    return f"{error}Tools: {called}. {used}."


def _marked(a: str, b: str) -> tuple[str, str]:
    """Both texts, escaped, with the words that only one of them has marked."""
    mine, theirs = a.split(" "), b.split(" ")
    if max(len(mine), len(theirs)) > MAX_WORDS:
        return _safe(a), _safe(b)
    left: list[str] = []
    right: list[str] = []
    for what, i, j, k, m in difflib.SequenceMatcher(
        None, mine, theirs, autojunk=False
    ).get_opcodes():
        for side, words, mark in ((left, mine[i:j], "del"), (right, theirs[k:m], "ins")):
            text = _safe(" ".join(words))
            if words:
                side.append(text if what == "equal" else f"<{mark}>{text}</{mark}>")
    return " ".join(left), " ".join(right)


def _both(was: str, now: str | None) -> str:
    return _safe(was) if now in (None, was) else f"{_safe(was)} → {_safe(now or '')}"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "-"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _dollars(value: float) -> str:
    return f"${value:,.4f}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"


def _change(was: dict[str, Any], now: dict[str, Any], name: str) -> str:
    if not was[name] or now[name] is None:
        return ""
    return f" ({100 * (now[name] / was[name] - 1):+.0f} %)"


def _anchor(pair: Pair) -> str:
    return _safe(f"{pair.session}/{pair.recorded.turn_id}")


def _safe(text: str) -> str:
    return escape(text, quote=True)
