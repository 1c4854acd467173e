"""Files are written whole or not at all, whatever call fails, and what others wrote stays."""

from __future__ import annotations

import ast
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

import yolomix
from yolomix import files

ROOT = Path(yolomix.__file__).parent
CALLS = ("open", "write", "flush", "fsync", "chmod", "replace")


class Failing:
    """Counts the calls that a write makes, and lets the n-th fail."""

    def __init__(self, n: int, error: int) -> None:
        self.n, self.error, self.seen = n, error, 0

    def around(self, native):
        def call(*args, **kwargs):
            self.seen += 1
            if self.seen == self.n:
                raise OSError(self.error, os.strerror(self.error))
            return native(*args, **kwargs)

        return call


class Disk:
    """A file whose methods fail as told."""

    def __init__(self, file, failing: Failing) -> None:
        self.file = file
        self.write, self.flush = failing.around(self._half), failing.around(file.flush)
        self.fileno = file.fileno

    def _half(self, content: bytes) -> None:
        self.file.write(content)

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        self.file.close()


def fail_at(n: int, error: int, monkeypatch: pytest.MonkeyPatch) -> Failing:
    failing = Failing(n, error)
    native_open = open
    opened = failing.around(lambda *args: Disk(native_open(*args), failing))
    monkeypatch.setattr(files, "open", opened, raising=False)
    for name in ("fsync", "chmod", "replace"):
        monkeypatch.setattr(files.os, name, failing.around(getattr(os, name)))
    return failing


def error_of(act) -> str:
    """What an act raises as OSError, in words; a folder that cannot be flushed after the rename is no error."""
    try:
        act()
    except OSError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EINTR, errno.EACCES])
@pytest.mark.parametrize("before", [b"the old content", None], ids=["replaces", "new"])
def test_whatever_call_fails_the_old_file_or_none_is_there(tmp_path, before, error):
    file = tmp_path / "a.pt"
    n = 0
    while True:
        n += 1
        if before is not None:
            file.write_bytes(before)
        with pytest.MonkeyPatch.context() as patch:
            failing = fail_at(n, error, patch)
            said = error_of(lambda: files.write(file, b"new content"))
        assert said in ("", f"[Errno {error}] cannot write {file}: {os.strerror(error)}")
        if failing.seen < n:
            break
        whole = {before, b"new content"} - {None}
        assert not file.exists() or file.read_bytes() in whole, f"call {n}"
        assert file.exists() or before is None
        assert [p.name for p in tmp_path.iterdir()] in ([], ["a.pt"])
        file.unlink(missing_ok=True)
    assert n > len(CALLS) - 1
    assert file.read_bytes() == b"new content"


def test_a_full_disk_names_the_file_and_the_next_write_works(tmp_path):
    code = """
import resource, sys
from yolomix import files
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
try:
    files.write(sys.argv[1], bytes(10_000))
except OSError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
files.write(sys.argv[1], bytes(10_000))
"""
    file = tmp_path / "a.pt"
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"cannot write {file}: File too large" in done.stdout
    assert file.stat().st_size == 10_000


def test_what_a_killed_process_left_is_removed_and_what_a_running_one_writes_stays(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = tmp_path / f".a.pt{files.ASIDE}{gone.pid}-00000000"
    kept = tmp_path / f".a.pt{files.ASIDE}{os.getppid()}-00000000"
    others = tmp_path / f".b.pt{files.ASIDE}{gone.pid}-00000000"
    for file in (left, kept, others):
        file.touch()
    files.write(tmp_path / "a.pt", b"")
    assert [file.exists() for file in (left, kept, others)] == [False, True, True]


def test_a_link_stays_a_link_and_permissions_stay(tmp_path):
    file, link = tmp_path / "a.pt", tmp_path / "link.pt"
    file.write_bytes(b"old")
    file.chmod(0o640)
    link.symlink_to(file)
    files.write(link, b"new")
    assert link.is_symlink()
    assert file.read_bytes() == b"new"
    assert file.stat().st_mode & 0o777 == 0o640


def test_a_new_file_has_the_permissions_of_the_mask(tmp_path):
    plain, ours = tmp_path / "plain", tmp_path / "ours"
    plain.write_bytes(b"")
    files.write(ours, b"")
    assert ours.stat().st_mode == plain.stat().st_mode


CHANGES = {
    "longer": lambda text: text + "# more\n",
    "other": lambda text: text.replace("2", "3"),
    "cut": lambda text: text.split("\n")[0],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_signed_file_that_was_changed_is_not_ours(tmp_path, change):
    file = files.write_signed(tmp_path / "a.yaml", "nc: 2\n")
    files.check_ours(file)
    file.write_text(change(file.read_text()))
    assert not files.is_ours(file)
    with pytest.raises(FileExistsError, match=r"a\.yaml exists and is not as yolomix wrote it, so it stays"):
        files.check_ours(file)


def test_a_folder_or_a_dangling_link_is_not_ours(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("folder", "link"):
        with pytest.raises(FileExistsError):
            files.check_ours(tmp_path / name)
    files.check_ours(tmp_path / "free")


def test_nothing_else_in_the_package_opens_a_file_for_writing():
    allowed = {"files.py", "cli/demo.py"}  # the second streams the log of a training
    allowed |= {"studying/child.py", "studying/queue.py", "studying/folder.py"}  # logs of runs, the lock of a study
    writers = {"write_text", "write_bytes", "savez", "imwrite", "dump", "mkstemp", "to_csv", "touch"}
    for file in ROOT.rglob("*.py"):
        if file.relative_to(ROOT).as_posix() in allowed:
            continue
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            owner = getattr(getattr(node.func, "value", None), "id", "")
            where = f"{file}:{node.lineno}"
            if owner == "files":
                continue
            assert name not in writers, f"{where} writes by itself; use yolomix.files"
            if owner == "torch" and name == "save":
                to_memory = getattr(node.args[1], "id", "") == "buffer"
                assert to_memory, f"{where} saves into a file; save into memory and use yolomix.files"
            if name == "open" and owner != "os":
                modes = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
                assert not set("".join(modes)) & set("wax+"), f"{where} opens a file for writing; use yolomix.files"
