"""Which agents use models that go, or have gone. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal

from msgspec import Struct

from shared.session.prices import names_model

Lifecycle = Literal["active", "deprecated", "retired", "unknown"]


class Model(Struct, frozen=True):
    """A model of the provider's; `retires_at` None: no day is known."""

    id: str
    lifecycle: Lifecycle
    retires_at: datetime | None = None


class Use(Struct, frozen=True):
    """A version of an agent, or a setting, that names a model; `who` in words."""

    model: str
    who: str


class Ending(Struct, frozen=True):
    """A model that is not active, who uses it, and how many days are left (None: nobody says)."""

    model: str
    lifecycle: Lifecycle
    retires_at: datetime | None
    days_left: int | None
    who: tuple[str, ...]


def endings(models: Sequence[Model], uses: Iterable[Use], now: datetime) -> list[Ending]:
    """Used models that are deprecated, retired or not listed, those that go first first."""
    users: dict[str, list[str]] = {}
    for use in uses:
        users.setdefault(use.model, []).append(use.who)
    found = [_ending(model, _listed(models, model), who, now) for model, who in users.items()]
    ending = [one for one in found if one.lifecycle != "active"]
    return sorted(ending, key=lambda one: (one.days_left is None, one.days_left or 0, one.model))


def _ending(id: str, model: Model, who: Sequence[str], now: datetime) -> Ending:
    retires = model.retires_at
    left = None if retires is None else (retires - now).days
    return Ending(id, model.lifecycle, retires, left, tuple(dict.fromkeys(who)))


def _listed(models: Sequence[Model], id: str) -> Model:
    """The model of that id, or whose id is that with a day after it; the newest of these."""
    exact = [one for one in models if one.id == id]
    dated = sorted((one for one in models if names_model(id, one.id)), key=lambda one: one.id)
    return next(iter(exact or dated[::-1]), Model(id, "unknown"))


def words(ending: Ending) -> str:
    """How long it is for, in words."""
    if ending.lifecycle == "unknown":
        return "not in the provider's list"
    if ending.retires_at is None:
        return f"{ending.lifecycle}; no day is set"
    day = ending.retires_at.date().isoformat()
    if ending.lifecycle == "retired":
        return f"retired {day}"
    if ending.days_left is not None and ending.days_left < 0:
        return f"deprecated; was to retire {day}"
    return f"deprecated; retires {day}, {ending.days_left} days left"
