import json
import sys

from distill.export.lockfile import lock, versions, write_lock


def test_a_lock_names_inputs_and_versions(tmp_path):
    write_lock(tmp_path, "gguf-q8_0", inputs={"model": "abc"})
    held = json.loads((tmp_path / "export.lock.json").read_text())
    assert (held["format"], held["version"], held["artefact"]) == ("distill-export-lock", 1, "gguf-q8_0")
    assert held["inputs"] == {"model": "abc"}
    assert held["versions"]["python"] == ".".join(str(part) for part in sys.version_info[:3])
    assert {"distill", "torch", "gguf"} <= set(held["versions"])


def test_the_same_export_gives_the_same_lock(tmp_path):
    """No times, no paths of this machine."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_lock(tmp_path / name, "safetensors", inputs={"model": "abc"})
    first, second = ((tmp_path / name / "export.lock.json").read_bytes() for name in ("a", "b"))
    assert first == second
    assert str(tmp_path) not in json.dumps(lock("safetensors", inputs={}))


def test_a_library_that_is_absent_is_not_named():
    assert all(version[0].isdigit() for version in versions().values())
