import hashlib
import os
import subprocess

import pytest

from distill.errors import ArtefactError
from distill.export.checksums import listed_files, verify_checksums, write_checksums


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


def test_the_listed_files_are_all_but_the_list(folder):
    assert listed_files(folder) == ("b.txt", "inner/a.txt")


def test_an_untouched_folder_passes_twice(folder):
    verify_checksums(folder)
    write_checksums(folder)
    verify_checksums(folder)


def test_a_changed_file_is_named(folder):
    (folder / "b.txt").write_bytes(b"too")
    with pytest.raises(ArtefactError, match=r"b\.txt has changed"):
        verify_checksums(folder)


def test_a_missing_file_is_named(folder):
    (folder / "inner" / "a.txt").unlink()
    with pytest.raises(ArtefactError, match=r"inner/a\.txt is missing"):
        verify_checksums(folder)


def test_a_new_file_is_named(folder):
    (folder / "c.txt").write_bytes(b"three")
    with pytest.raises(ArtefactError, match=r"c\.txt is not in SHA256SUMS"):
        verify_checksums(folder)


def test_a_folder_without_a_list_is_no_artefact(tmp_path):
    with pytest.raises(ArtefactError, match="has no SHA256SUMS"):
        verify_checksums(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "{0}  ../b.txt",
        "{0}  /etc/passwd",
        "{0}  ./b.txt",
        "{0}  inner//a.txt",
        "{0} b.txt",
        "b.txt",
        "",
        "{0}  SHA256SUMS",
        "{0}  a\\b",
        "{0}  a\rb",
        "0  b.txt",
    ],
)
def test_a_line_that_is_none_is_named_and_nothing_outside_is_read(folder, line):
    sums = folder / "SHA256SUMS"
    sums.write_text(sums.read_text() + line.format("0" * 64) + "\n", newline="")
    with pytest.raises(ArtefactError, match=r"SHA256SUMS:3 is "):
        verify_checksums(folder)


def test_a_name_that_is_listed_twice_is_named(folder):
    sums = folder / "SHA256SUMS"
    sums.write_text(sums.read_text() + "0" * 64 + "  b.txt\n")
    with pytest.raises(ArtefactError, match=r"SHA256SUMS:3 lists b\.txt a second time"):
        verify_checksums(folder)


@pytest.mark.parametrize("data", [b"", b"\xff\n", b"\x00" * 100])
def test_a_list_that_is_none_is_refused(folder, data):
    (folder / "SHA256SUMS").write_bytes(data)
    with pytest.raises(ArtefactError, match="SHA256SUMS"):
        verify_checksums(folder)


@pytest.mark.parametrize("name", ["b.txt", "inner", "SHA256SUMS", "new"])
def test_a_link_is_refused_though_its_bytes_are_right(folder, tmp_path_factory, name):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "x"
    if (folder / name).exists():
        (folder / name).rename(elsewhere)
    else:
        elsewhere.write_bytes(b"")
    (folder / name).symlink_to(elsewhere)
    with pytest.raises(ArtefactError, match=r"is a symbolic link|has no SHA256SUMS"):
        verify_checksums(folder)


def test_what_is_no_file_is_not_read(folder):
    """Reading a pipe that nobody writes to would wait for ever."""
    os.mkfifo(folder / "pipe")
    with pytest.raises(ArtefactError, match="pipe is no plain file"):
        verify_checksums(folder)
