"""Many rows in one statement on PostgreSQL: one array a column, so that the statement is the same for however many
rows, and prepared once.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Text, bindparam, cast, column, func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql.selectable import TableValuedAlias
from sqlmodel import AutoString


def given_rows(*columns: ColumnElement[Any], of: str = "") -> TableValuedAlias:
    """A table of parameters, an array `given_<name>` a column, in the order given, which `place` counts from 1.
    Where a statement is given two, the names of one's columns begin with `of` as parameters.

    A text goes as one of any length: cast to a column's length it would be cut, and the column refuses it.
    """
    kinds = [Text() if isinstance(each.type, AutoString) else each.type for each in columns]
    named = [column(each.name, kind) for each, kind in zip(columns, kinds, strict=True)]
    arrays = [cast(bindparam(f"given_{of}{each.name}"), ARRAY(each.type)) for each in named]
    rows = func.unnest(*arrays).table_valued(*named, with_ordinality="place")
    return rows.render_derived(name=f"{of}given")
