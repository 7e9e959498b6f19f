"""Errors of the store, in one line with advice."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import sqlalchemy as sa

from android_bench.errors import BenchError

KEPT = "what was stored before is kept"

# What databases say, and what to do: the first that fits.
_ADVICE: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(said, re.IGNORECASE), advice)
    for said, advice in (
        (
            r"database (table )?is locked",
            "another program is writing to it; end that program and repeat the command",
        ),
        (
            r"read-?only",
            "allow writing to the file and its folder, or copy it to where you may"
            " write",
        ),
        (
            r"is full|no space left|disk i/o error|disk full|quota",
            f"free some space and repeat the command; {KEPT}",
        ),
        (
            r"not a database|malformed|corrupt",
            "it is damaged, or no SQLite file: name another, or move it away and take"
            " out what can be read with `sqlite3 FILE .recover`",
        ),
        (
            r"unable to open database file",
            "give the path of a file where you may write",
        ),
        (
            r"no such (table|column)|has no column|(relation|column) .* does not exist",
            "its tables are not those of a measurement store; name another",
        ),
        (
            r"password|authentication|role .* does not exist",
            "check user and password in the URL, or in the file ~/.pgpass",
        ),
        (r"database .* does not exist", "make it first, e.g. with `createdb NAME`"),
        (
            r"refused|could not translate|failed to resolve|timeout|timed out"
            r"|connection failed|closed the connection|terminating connection",
            f"check that the server runs and that the URL is right; {KEPT}",
        ),
        (r"permission denied", "let the database's owner give you the right to"),
    )
)


class StoreError(BenchError):
    """The store itself cannot be used, so that no measurement could be stored."""


def without_password(target: object) -> str:
    """A store's path or URL as it may be printed: without a password."""
    text = re.sub(r"(://[^:/@?]*):[^/?]*@", r"\1:***@", str(target))
    return re.sub(r"([?&]password=)[^&]*", r"\1***", text)


@contextlib.contextmanager
def translated_errors(target: str) -> Iterator[None]:
    """Translates the database's exceptions into StoreErrors of one line.

    Args:
        target: what to call the store, fit to be printed.
    """
    try:
        yield
    except sa.exc.DBAPIError as error:
        said = _first_line(str(error.orig)) or "the database refuses"
        raise StoreError(
            f"The measurement store {target} cannot be used ({said}): {_advice(said)}."
        ) from error
    except ModuleNotFoundError as error:
        raise StoreError(
            f"The measurement store {target} needs the driver {error.name!r}, which is"
            " not installed; for PostgreSQL run `pip install 'mess-tf[postgresql]'`."
        ) from error
    except (sa.exc.SQLAlchemyError, OSError) as error:
        raise StoreError(
            f"The measurement store {target} cannot be opened"
            f" ({_first_line(str(error))}); give the path of an SQLite file, or the URL"
            " of a database like postgresql://user@host/name."
        ) from error


def _advice(said: str) -> str:
    fitting = (advice for pattern, advice in _ADVICE if pattern.search(said))
    return next(fitting, f"see what it says, then repeat the command; {KEPT}")


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else ""
