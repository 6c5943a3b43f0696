"""What several processes count, as one Prometheus text."""

from __future__ import annotations

from collections.abc import Sequence

# Of several processes the first one's: what is no sum.
_NO_SUM = ("_created", "process_start_time_seconds", "process_max_fds", "python_info")


def added_up(texts: Sequence[bytes]) -> bytes:
    """The texts of several processes as one: samples of one name and labels are added up."""
    families: dict[str, dict[str, float | None]] = {}
    for text in texts:
        family: dict[str, float | None] = {}
        for line in text.decode().splitlines():
            if line.startswith("# HELP "):
                family = families.setdefault(line, {})
            if line.startswith("#"):
                family[line] = None
                continue
            sample, _, value = line.rpartition(" ")
            before = family.get(sample)
            if before is None:
                family[sample] = float(value)
            elif not sample.partition("{")[0].endswith(_NO_SUM):
                family[sample] = before + float(value)
    return "".join(
        f"{line}\n" if value is None else f"{line} {value!r}\n"
        for family in families.values()
        for line, value in family.items()
    ).encode()
