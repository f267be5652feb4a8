"""The shipped teacher's folder."""

from pathlib import Path

import pytest

from distill.embedded import teacher
from distill.errors import ModelError


def test_a_folder_with_a_config_is_given_back(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert teacher.require_model(tmp_path) == tmp_path


def test_a_folder_without_config_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"has no config\.json"):
        teacher.require_model(tmp_path)


def test_teacher_folder_lies_in_the_package_or_is_refused():
    folder = Path(teacher.__file__).parent / "teacher"
    if (folder / "config.json").is_file():
        assert teacher.teacher_folder() == folder
    else:
        with pytest.raises(ModelError, match="without the teacher's weights"):
            teacher.teacher_folder()
