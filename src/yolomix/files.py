"""Every file that yolomix writes: written aside, flushed to the disk, and put in place in one rename.

A reader cannot tell half a file from a whole one, so none is published: a full disk or a killed process leaves the old
file or none. Beside a file may be left what a killed process was writing; the next write of that file removes it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

ASIDE = ".yolomix-"  # in the name of a file that is being written, before and after the process id
SIGNED = "# yolomix wrote the rest of this file, sha256 "


def write(path: str | Path, content: bytes, flush: bool = True) -> Path:
    """Put content under a name, whole or not at all; a link stays and the file that it means is replaced.

    >>> write("note.txt", b"all of it").read_bytes()
    b'all of it'

    Args:
        path: the name.
        content: what the file will hold.
        flush: whether to wait until it is on the disk; not needed inside a folder that :func:`publish` puts in place.

    Raises:
        OSError: the file cannot be written; the text names it and the reason, and what stood there is untouched.
    """
    return _replace(path, content, flush)


def write_text(path: str | Path, text: str, flush: bool = True) -> Path:
    """:func:`write` for text, in UTF-8, with lines that end as given.

    >>> write_text("note.txt", "größer").read_text("utf-8")
    'größer'
    """
    return write(path, text.encode("utf-8"), flush)


def publish(folder: Path, under: Path) -> None:
    """Put a folder that is complete under another name in one step, when all of it is on the disk.

    >>> _ = (Path("aside").mkdir(), write("aside/a.txt", b"a", flush=False))
    >>> publish(Path("aside"), Path("kept"))
    >>> Path("kept/a.txt").read_bytes()
    b'a'

    Raises:
        OSError: the name is taken, or the folder cannot be written.
    """
    if hasattr(os, "sync"):
        os.sync()
    folder.rename(under)
    _flush_folder(under.parent)


@contextlib.contextmanager
def folder_aside(target: str | Path) -> Iterator[Path]:
    """A folder beside a name, for the files that somebody else writes there; it is gone when the block ends.

    What is complete :func:`put_in_place` takes out of it.

    >>> with folder_aside("best.onnx") as aside:
    ...     _ = write(aside / "best.onnx", b"all of it", flush=False)
    ...     _ = put_in_place(aside / "best.onnx", "best.onnx")
    >>> aside.exists(), Path("best.onnx").read_bytes()
    (False, b'all of it')

    Raises:
        OSError: nothing can be written there.
    """
    path = Path(os.path.realpath(target))
    aside = path.with_name(f".{path.name}{ASIDE}{os.getpid()}-{secrets.token_hex(4)}")
    try:
        _remove_leftovers(path)
        aside.mkdir()
    except OSError as error:
        raise OSError(error.errno or errno.EIO, f"cannot write {target}: {error.strerror or error}") from error
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def put_in_place(written: Path, target: str | Path) -> Path:
    """Give a file or folder that is complete the name for which it was written; what stood there goes.

    Raises:
        OSError: it cannot; what stood there stands again.
    """
    path = Path(target)
    old = written.with_name(f"{written.name}.old")
    if path.is_dir():  # no rename replaces a folder
        os.rename(path, old)
    try:
        os.replace(written, path)
    except OSError:
        if old.exists():
            os.rename(old, path)
        raise
    return path


def write_signed(path: str | Path, text: str) -> Path:
    """:func:`write_text` with a first line by which :func:`is_ours` knows the file again.

    >>> is_ours(write_signed("plan.yaml", "nc: 2"))
    True
    """
    return write_text(path, f"{SIGNED}{_digest(text.encode('utf-8'))}\n{text}")


def is_ours(path: str | Path) -> bool:
    """Whether a file is, byte for byte, one that :func:`write_signed` wrote.

    >>> file = write_signed("edited.yaml", "nc: 2")
    >>> with file.open("a") as edited:
    ...     _ = edited.write("# an evening of work")
    >>> is_ours(file)
    False
    """
    first, newline, rest = Path(path).read_bytes().partition(b"\n")
    return bool(newline) and first.decode("utf-8", "replace") == f"{SIGNED}{_digest(rest)}"


def check_ours(path: str | Path) -> None:
    """Raise FileExistsError unless nothing stands under a name, or only what was written here and never changed."""
    if os.path.lexists(path) and not (Path(path).is_file() and is_ours(path)):
        raise FileExistsError(
            f"{path} exists and is not as yolomix wrote it, so it stays; give another file name: save=..., or move it"
        )


def same(one: str | Path, other: str | Path) -> bool:
    """Whether two names mean one file, by whatever spelling, link or hard link.

    >>> _ = write("a.txt", b""), os.link("a.txt", "b.txt")
    >>> same("a.txt", "./b.txt"), same("a.txt", "c.txt")
    (True, False)
    """
    with contextlib.suppress(OSError):
        return os.path.samefile(one, other)
    return Path(one).resolve() == Path(other).resolve()


def digest(path: str | Path) -> str:
    """The SHA-256 of a file's content.

    >>> digest(write("a.txt", b""))[:8]
    'e3b0c442'
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _replace(path: str | Path, content: bytes, flush: bool) -> Path:
    target = Path(os.path.realpath(path))
    aside = target.with_name(f".{target.name}{ASIDE}{os.getpid()}-{secrets.token_hex(4)}")
    try:
        _remove_leftovers(target)
        with open(aside, "xb") as file:
            file.write(content)
            file.flush()
            if flush:
                os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):  # a new file has the permissions that the user's mask gives
            os.chmod(aside, target.stat().st_mode & 0o777)
        os.replace(aside, target)
        if flush:
            _flush_folder(target.parent)
    except OSError as error:
        raise OSError(error.errno or errno.EIO, f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(aside)  # there only if it was not put in place
    return Path(path)


def _flush_folder(folder: Path) -> None:
    """Let the rename itself reach the disk, where folders can be opened."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove_leftovers(target: Path) -> None:
    """Remove what killed processes were writing under this name; those that still run keep theirs."""
    pattern = re.compile(re.escape(f".{target.name}{ASIDE}") + r"(\d+)-")
    for name in os.listdir(target.parent):
        found = pattern.match(name)
        if found and not runs(int(found[1])):
            left = target.parent / name
            with contextlib.suppress(OSError):
                shutil.rmtree(left) if left.is_dir() else os.unlink(left)


def runs(pid: int) -> bool:
    """Whether a process of that id is alive; where that cannot be asked, as if it were.

    >>> runs(os.getpid())
    True
    """
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
