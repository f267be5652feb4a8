import hashlib
import subprocess

import pytest

from distill.errors import ExportError
from distill.export.checksums import verify_checksums, write_checksums


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "b.txt").write_bytes(b"two")
    (tmp_path / "inner" / "a.txt").write_bytes(b"one")
    write_checksums(tmp_path)
    return tmp_path


def test_the_list_is_what_sha256sum_reads(folder):
    lines = [
        f"{hashlib.sha256(text).hexdigest()}  {name}" for text, name in ((b"two", "b.txt"), (b"one", "inner/a.txt"))
    ]
    assert (folder / "SHA256SUMS").read_text() == "\n".join(lines) + "\n"
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True)


def test_an_untouched_folder_passes_twice(folder):
    verify_checksums(folder)
    write_checksums(folder)
    verify_checksums(folder)


def test_a_changed_file_is_named(folder):
    (folder / "b.txt").write_bytes(b"too")
    with pytest.raises(ExportError, match=r"b\.txt has changed"):
        verify_checksums(folder)


def test_a_missing_file_is_named(folder):
    (folder / "inner" / "a.txt").unlink()
    with pytest.raises(ExportError, match=r"inner/a\.txt is missing"):
        verify_checksums(folder)


def test_a_new_file_is_named(folder):
    (folder / "c.txt").write_bytes(b"three")
    with pytest.raises(ExportError, match=r"c\.txt is not in SHA256SUMS"):
        verify_checksums(folder)


def test_a_folder_without_a_list_is_no_artefact(tmp_path):
    with pytest.raises(ExportError, match="has no SHA256SUMS"):
        verify_checksums(tmp_path)
