import json

from distill.files import read_json
from eval.speed import cache as module
from eval.speed.figures import CacheSpeed, Spread, WaitingRow


def test_the_command_measures_the_part_asked_for_and_writes_its_origin(tmp_path, monkeypatch, capsys):
    once = Spread(median=1.0, low=1.0, high=1.0)
    row = WaitingRow(tier="exact", steps=3, step_s=once, waiting_share=0.0)
    monkeypatch.setattr(module.waiting, "waiting_row", lambda num_steps: row)
    module.main(["--part", "waiting", "--steps", "3", "--json", str(tmp_path / "speed.json")])
    (line,) = capsys.readouterr().out.splitlines()
    figures = CacheSpeed.model_validate(json.loads(line))
    assert (figures.capture, figures.reading, figures.waiting) == ((), (), (row,))
    written = read_json(tmp_path / "speed.json")
    assert written["command"] == "python -m eval.speed.cache --part waiting --repeats 7 --steps 3"
