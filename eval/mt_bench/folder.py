"""A benchmark by its folder or by the name of a shipped set, which is written to a folder first."""

import importlib.resources
import logging
import time
from dataclasses import dataclass
from pathlib import Path

from distill.errors import DataError, RecipeError
from distill.files import sha256_of_file, write_text
from eval.mt_bench.answer_rows import AnswerRow, Choice, write_answer_rows
from eval.mt_bench.questions import embedded_questions, read_questions, write_questions

log = logging.getLogger(__name__)

SHIPPED = ("two_turns", "embedded")
QUESTIONS, PROMPTS, REFERENCES = "question.jsonl", "judge_prompts.jsonl", "reference_answer"
NO_REFERENCES, OWN_REFERENCES = "none", "own"
SHORT_PROMPTS = "short"


@dataclass(frozen=True)
class References:
    """A set of reference answers: its file and the name it has in a score's key."""

    path: Path
    name: str


@dataclass(frozen=True)
class BenchFolder:
    """Where a benchmark's files stand; answers and judgments are written below `folder`."""

    folder: Path

    @property
    def questions(self) -> Path:
        """The question file."""
        return self.folder / QUESTIONS

    @property
    def prompts(self) -> Path:
        """The judge prompts: in the folder, beside it as FastChat keeps them, or else the shipped ones."""
        for place in (self.folder, self.folder.parent):
            if (place / PROMPTS).exists():
                return place / PROMPTS
        return shipped_file(PROMPTS)

    def references(self, name: str | None = None) -> References | None:
        """A set of reference answers.

        Args:
            name: a set in `reference_answer`, a file, `own` for those in the question file, or `none`; left out, the
                only set there is.

        Raises:
            RecipeError: there is no such set, or there are several and none was named.
        """
        known = {path.stem: path for path in sorted((self.folder / REFERENCES).glob("*.jsonl"))}
        if name is not None:
            return self._named(name, known)
        if len(known) > 1:
            raise RecipeError(
                f"{self.folder / REFERENCES} holds {len(known)} sets of references and none was chosen",
                why="a score depends on what the judge was shown, and bears the set's name",
                fix=f"--references {' or --references '.join(known)}",
            )
        if known:
            return References(next(iter(known.values())), next(iter(known)))
        return References(self.questions, OWN_REFERENCES) if self._has_own() else None

    def _named(self, name: str, known: dict[str, Path]) -> References | None:
        if name == NO_REFERENCES:
            return None
        if name in known:
            return References(known[name], name)
        if name == OWN_REFERENCES and self._has_own():
            return References(self.questions, OWN_REFERENCES)
        if Path(name).is_file():
            return References(Path(name), Path(name).stem)
        named = [*known, *([OWN_REFERENCES] if self._has_own() else []), NO_REFERENCES]
        raise RecipeError(
            f"--references is {name}, which is no set of {self.folder} and no file",
            why=f"there are: {', '.join(named)}",
        )

    def _has_own(self) -> bool:
        return any(question.reference for question in read_questions(self.questions))


def open_bench(bench: str, *, data: Path = Path("data")) -> BenchFolder:
    """The folder of a benchmark; a shipped set is written to `data`/NAME, where it is not there yet.

    Args:
        bench: a shipped set's name, or a folder with a `question.jsonl`; `./two_turns` is a folder.
        data: where the folders of shipped sets stand.

    Raises:
        RecipeError: it is neither.
        DataError: a file of a shipped set was changed.
    """
    if bench in SHIPPED:
        return BenchFolder(_written(bench, data / bench))
    if (Path(bench) / QUESTIONS).is_file():
        return BenchFolder(Path(bench))
    if (data / bench / QUESTIONS).is_file():
        return BenchFolder(data / bench)
    fetch = " or distill eval fetch mt_bench first" if bench == "mt_bench" else ""
    raise RecipeError(
        f"--bench is {bench}, which holds no {QUESTIONS}",
        why=f"it is none of the shipped sets {', '.join(SHIPPED)} either",
        fix=f"name a folder with a {QUESTIONS}{fetch}",
    )


def shipped_file(name: str, *, folder: str = "two_turns") -> Path:
    """A file of a set that comes with the package."""
    with importlib.resources.as_file(importlib.resources.files("eval") / "data" / folder / name) as path:
        return path


def prompts_file(name: str | Path) -> Path:
    """Judge prompts by file, or `short`: those that ship with the package for small judges of few hundred tokens."""
    return shipped_file(PROMPTS, folder="short_prompts") if str(name) == SHORT_PROMPTS else Path(name)


def _written(name: str, folder: Path) -> Path:
    if name == "two_turns":
        for part in (QUESTIONS, PROMPTS, f"{REFERENCES}/distill.jsonl"):
            _copied(shipped_file(part), folder / part)
        return folder
    if not (folder / QUESTIONS).exists():
        _write_embedded(folder)
    elif read_questions(folder / QUESTIONS) != embedded_questions():
        raise _changed(folder / QUESTIONS)
    _copied(shipped_file(PROMPTS), folder / PROMPTS)
    return folder


def _write_embedded(folder: Path) -> None:
    """The embedded world's questions, and their references as the answer file that judges are shown."""
    questions = embedded_questions()
    write_answer_rows(
        folder / REFERENCES / "embedded.jsonl",
        (
            AnswerRow(q.question_id, f"reference-{q.question_id}", "embedded", (Choice(0, q.reference),), 0.0)
            for q in questions
            if q.reference
        ),
    )
    write_questions(folder / QUESTIONS, questions)
    log.info("wrote the embedded world's questions to %s", folder)


def _copied(source: Path, target: Path) -> None:
    if not target.exists():
        write_text(target, source.read_text(encoding="utf-8"))
    elif sha256_of_file(target) != sha256_of_file(source):
        raise _changed(target)


def _changed(path: Path) -> DataError:
    return DataError(
        f"{path} is not the shipped file",
        why="scores on a changed set would bear the name of the set",
        fix=f"delete it, or move the folder and name it: --bench ./{path.parent.name}-{time.strftime('%Y')}",
    )
