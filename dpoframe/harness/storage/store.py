"""What an evaluation has made so far: answers, log-probabilities and verdicts, each under a digest of everything that made it.

One SQLite file a process, `store/rank-<r>.sqlite`, in WAL mode: what was written before a kill is there after it. The first
process takes in what the others wrote. Entries of another model, suite or version stay and are never asked for, because
their keys are others. A file that is damaged, or that is no store, is set aside with a warning and its work is done again.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dpoframe.errors import ConfigError, MachineError
from dpoframe.harness.storage.folder import AGAIN
from dpoframe.harness.storage.keys import mark
from dpoframe.harness.storage.media import Blobs

FOLDER = "store"

_APPLICATION = 0x64706F66  # "dpof"
_LAYOUT = 1
_AT_ONCE = 500
_ENCODER = json.JSONEncoder(sort_keys=True)
# Entries that any process may write; `rows` and `seen` are the first process's, made anew in every run.
_SHARED = {"samples": ("key", "content"), "logps": ("key", "content"), "scores": ("evaluator", "seen", "content")}
# What is there stays, but for a verdict that was to be asked for again: another process may have got it since.
_KEPT = {
    "samples": "ON CONFLICT DO NOTHING",
    "logps": "ON CONFLICT DO NOTHING",
    "scores": "ON CONFLICT DO UPDATE SET content = excluded.content, mark = excluded.mark "
    f"""WHERE main.scores.content LIKE '%{AGAIN}", "values": null}}'""",
}
_TABLES = """
CREATE TABLE IF NOT EXISTS samples (key TEXT PRIMARY KEY, content TEXT NOT NULL, mark BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS logps (key TEXT PRIMARY KEY, content TEXT NOT NULL, mark BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS scores (
    evaluator TEXT NOT NULL, seen TEXT NOT NULL, content TEXT NOT NULL, mark BLOB NOT NULL, PRIMARY KEY (evaluator, seen)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rows (
    kind TEXT NOT NULL, place INTEGER NOT NULL, id TEXT NOT NULL, cluster TEXT NOT NULL, line TEXT NOT NULL,
    PRIMARY KEY (kind, place)
);
CREATE TABLE IF NOT EXISTS seen (
    need TEXT NOT NULL, kind TEXT NOT NULL, place INTEGER NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (need, kind, place)
) WITHOUT ROWID;
"""


class Store:
    """The store of one evaluation as one process sees it: its own file, and the first process's.

    Make it with `opened`.
    """

    def __init__(self, folder: Path, rank: int) -> None:
        self.folder, self.rank = folder, rank
        with _explained(folder):
            self.database = _connected(file_of(folder, rank))
            self.schemas = ["main"]
            if rank:
                self.database.execute("ATTACH ? AS first", (str(file_of(folder, 0)),))
                self.schemas.append("first")

    def close(self) -> None:
        """Closes the file; SQLite folds the log into it."""
        with contextlib.suppress(sqlite3.Error):
            self.database.close()

    def known(self, table: str, keys: Collection[str]) -> set[str]:
        """Those of `keys` that have an entry in `samples` or `logps`."""
        return {key for key, _ in self._found(f"SELECT key, 1 FROM {{schema}}.{table} WHERE key IN ({{marks}})", list(keys))}

    def contents(self, table: str, keys: Sequence[str]) -> dict[str, Any]:
        """The entries of `keys` in `samples` or `logps`; keys without one are left out."""
        found = self._found(f"SELECT key, content FROM {{schema}}.{table} WHERE key IN ({{marks}})", keys)
        return {key: json.loads(content) for key, content in found}

    def judged(self, evaluator: str, seen: Sequence[str]) -> dict[str, Any]:
        """The verdicts of an evaluator on what it saw."""
        select = f"SELECT seen, content FROM {{schema}}.scores WHERE evaluator = {_quoted(evaluator)} AND seen IN ({{marks}})"
        return {key: json.loads(content) for key, content in self._found(select, seen)}

    def put(self, table: str, entries: Mapping[str, Any]) -> None:
        """Adds entries to `samples` or `logps` in one go: all of them are there after a kill, or none. What is there stays."""
        rows = [(key, _ENCODER.encode(content)) for key, content in entries.items()]
        with self.writing():
            self.database.executemany(f"INSERT OR IGNORE INTO main.{table} VALUES (?, ?, ?)", [(*row, mark(row)) for row in rows])

    def judge(self, evaluator: str, verdicts: Mapping[str, Any]) -> None:
        """Adds verdicts by what the evaluator saw, in one go; a verdict that was there is replaced."""
        rows = [(evaluator, seen, _ENCODER.encode(verdict)) for seen, verdict in verdicts.items()]
        with self.writing():
            self.database.executemany("INSERT OR REPLACE INTO main.scores VALUES (?, ?, ?, ?)", [(*row, mark(row)) for row in rows])

    def lay_out(self, kind: str, rows: Iterable[tuple[str, str, str, Mapping[str, str]]]) -> None:
        """Writes the rows of the suite in its order, in the place of those that were there.

        Args:
            kind: `answer` or `pair`.
            rows: Id, cluster, line of the export, and by need the digest of what its evaluators see.
        """
        with self.writing():
            self.database.execute("DELETE FROM main.rows WHERE kind = ?", (kind,))
            self.database.execute("DELETE FROM main.seen WHERE kind = ?", (kind,))
            for place, (name, cluster, line, seen) in enumerate(rows):
                self.database.execute(
                    "INSERT INTO main.rows VALUES (?, ?, ?, ?, ?)", (kind, place, json.dumps(name), cluster, line)
                )
                given = [(need, kind, place, key) for need, key in seen.items()]
                self.database.executemany("INSERT INTO main.seen VALUES (?, ?, ?, ?)", given)

    def lines(self, kind: str) -> Iterator[str]:
        """The lines of the export, in order."""
        yield from (line for (line,) in self._each("SELECT line FROM {schema}.rows WHERE kind = ? ORDER BY place", kind))

    def asked(self, kind: str, need: str) -> Iterator[tuple[str, str]]:
        """What evaluators of one need see, in order: the digest of it, and the line that holds it."""
        select = (
            "SELECT seen.digest, rows.line FROM {schema}.rows AS rows JOIN {schema}.seen AS seen USING (kind, place) "
            "WHERE kind = ? AND need = ? ORDER BY place"
        )
        yield from self._each(select, kind, need)

    def verdicts(self, kind: str, need: str, evaluator: str) -> Iterator[tuple[str, str, Any]]:
        """Id, cluster and verdict of each row in order; the verdict is None where the evaluator has given none."""
        select = (
            "SELECT rows.id, rows.cluster, scores.content "
            "FROM {schema}.rows AS rows JOIN {schema}.seen AS seen USING (kind, place) "
            "LEFT JOIN {schema}.scores AS scores ON scores.evaluator = ? AND scores.seen = seen.digest "
            "WHERE kind = ? AND need = ? ORDER BY place"
        )
        for name, cluster, content in self._each(select, evaluator, kind, need):
            yield json.loads(name), cluster, None if content is None else json.loads(content)

    def count(self, table: str) -> int:
        """Entries of a table."""
        return int(next(iter(self._each(f"SELECT count(*) FROM {{schema}}.{table}")))[0])

    def take_in(self, files: Iterable[Path]) -> None:
        """Copies what other processes' files hold and this one lacks."""
        for file in files:
            with _explained(self.folder):
                self.database.execute("ATTACH ? AS other", (str(file),))
                try:
                    with self.writing():
                        for table in _SHARED:
                            self.database.execute(f"INSERT INTO main.{table} SELECT * FROM other.{table} WHERE true {_KEPT[table]}")
                finally:
                    self.database.execute("DETACH other")

    def forget(self, table: str, condition: str) -> None:
        """Removes entries; `condition` is SQL over the columns of the table."""
        with self.writing():
            self.database.execute(f"DELETE FROM main.{table} WHERE {condition}")

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Context of one transaction."""
        with _explained(self.folder):
            self.database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                if self.database.in_transaction:  # a full disk has ended it already
                    self.database.execute("ROLLBACK")
                raise
            self.database.execute("COMMIT")

    def _found(self, select: str, keys: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        with _explained(self.folder):
            for start in range(0, len(keys), _AT_ONCE):
                some = keys[start : start + _AT_ONCE]
                for schema in self.schemas:
                    yield from self.database.execute(select.format(schema=schema, marks=",".join("?" * len(some))), some)

    def _each(self, select: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        """Rows of the first process's file, one by one."""
        with _explained(self.folder):
            yield from self.database.execute(select.format(schema=self.schemas[-1]), values)


@contextlib.contextmanager
def opened(folder: Path, rank: int = 0) -> Iterator[Store]:
    """Context with the store of an evaluation's folder; the first process must have prepared it (`prepare`)."""
    store = Store(folder, rank)
    try:
        yield store
    finally:
        store.close()


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Context in which no other evaluation writes into the folder. The system drops the claim of a process that dies.

    Raises:
        ConfigError: another evaluation is running there.
        MachineError: the folder cannot be made, or its disk is full.
    """
    try:
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(f"The folder {folder} cannot be made ({error.strerror}). Give another with --out.") from error
    claim = _claim(folder)
    try:
        yield
    finally:
        claim.close()


def _claim(folder: Path) -> sqlite3.Connection:
    """A connection that holds the folder's claim; a claim's file that is none is made anew, as nobody can hold it."""
    file = folder / FOLDER / ".claim"
    for last in (False, True):
        with _explained(folder):
            claim = sqlite3.connect(file, timeout=0, isolation_level=None)
            try:
                claim.execute("BEGIN EXCLUSIVE")
            except sqlite3.DatabaseError as error:
                claim.close()
                if _is_held(error):
                    raise ConfigError(
                        f"Another process is evaluating into {folder}. Wait until it ends, or give another folder with --out."
                    ) from error
                if last or isinstance(error, sqlite3.OperationalError):
                    raise
                file.unlink(missing_ok=True)
            else:
                return claim
    raise AssertionError("the second try returns or raises")


def _is_held(error: sqlite3.Error) -> bool:
    """Whether another process has what was asked for."""
    return "locked" in str(error) or "busy" in str(error)


def prepare(folder: Path) -> None:
    """Looks through every file of the store before anyone uses it: damaged ones are set aside, the others are taken in."""
    for file in files_of(folder):
        if fault := _fault(file, Blobs(folder)):
            _set_aside(file, fault)
    with opened(folder) as store:
        store.take_in(files_of(folder)[1:] if file_of(folder, 0).is_file() else ())


def file_of(folder: Path, rank: int) -> Path:
    """The file of one process."""
    return folder / FOLDER / f"rank-{rank}.sqlite"


def files_of(folder: Path) -> list[Path]:
    """The files of all processes there ever were, the first one's first."""
    found = (folder / FOLDER).glob("rank-*.sqlite")
    return sorted((file for file in found if _number(file).isdecimal()), key=lambda file: int(_number(file)))


def _number(file: Path) -> str:
    return file.stem.removeprefix("rank-")


def _connected(file: Path) -> sqlite3.Connection:
    database = sqlite3.connect(file, timeout=60, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    database.executescript(f"BEGIN; PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {_LAYOUT}; {_TABLES} COMMIT;")
    return database


def _fault(file: Path, blobs: Blobs) -> str:
    """What is wrong with a store's file as a whole; entries of it that are not what was written are removed on the way."""
    try:
        database = sqlite3.connect(file, timeout=60, isolation_level=None)
        try:
            return _fault_of_layout(database) or _remove_damaged(database, file, blobs)
        finally:
            database.close()
    except sqlite3.DatabaseError as error:
        return str(error)


def _fault_of_layout(database: sqlite3.Connection) -> str:
    (application,), (layout,) = database.execute("PRAGMA application_id"), database.execute("PRAGMA user_version")
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return ""  # made and never written
    if application[0] != _APPLICATION:
        return "it was not written by dpoframe"
    if layout[0] != _LAYOUT:
        return f"it has layout {layout[0]}, and this version of dpoframe writes layout {_LAYOUT}"
    (found,) = database.execute("PRAGMA quick_check(1)")
    return "" if found[0] == "ok" else str(found[0]).splitlines()[0]


def _remove_damaged(database: sqlite3.Connection, file: Path, blobs: Blobs) -> str:
    """Removes entries whose mark does not vouch for them, and answers whose picture or sound is gone."""
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    removed = 0
    for table, columns in _SHARED.items():
        if table not in tables:
            continue
        names = ", ".join(columns)
        bad = [
            row[:-1]
            for *row, vouched in database.execute(f"SELECT {names}, mark FROM {table}")
            if mark(map(str, row)) != vouched or ('"media"' in row[-1] and blobs.missing(json.loads(row[-1])))
        ]
        where = " AND ".join(f"{name} = ?" for name in columns[:-1])
        database.executemany(f"DELETE FROM {table} WHERE {where}", [tuple(key) for key in bad])
        removed += len(bad)
    if removed:
        warnings.warn(f"{removed} entries of {file} are damaged; they are made again.", RuntimeWarning, stacklevel=2)
    return ""


def _set_aside(file: Path, fault: str) -> None:
    number = 1
    while (place := file.with_name(f"{file.name}.broken-{number}")).exists():
        number += 1
    file.rename(place)
    for left in (file.with_name(f"{file.name}-wal"), file.with_name(f"{file.name}-shm")):
        left.unlink(missing_ok=True)
    told = f"The store {file} cannot be used ({fault}). It is set aside as {place.name}, and what it held is made again."
    warnings.warn(told, RuntimeWarning, stacklevel=2)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turns what SQLite raises for a full disk, a lock or a broken file into an error that says what to do."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        place, text = folder / FOLDER, str(error)
        if _is_held(error):
            raise ConfigError(f"Another process is writing to the store in {place}. Wait until it ends.") from error
        if any(word in text for word in ("full", "readonly", "unable to open", "disk I/O")):
            raise MachineError(f"The store in {place} cannot be written ({text}). Make room, or give another --out.") from error
        told = f"The store in {place} broke while it was used ({text})."
        raise MachineError(f"{told} Run again: it is looked through first, and what is damaged is made anew.") from error
