"""Every exception this project raises on purpose.

DistillError
├── RecipeError        a recipe or a command line asks for something impossible     exit code 2
├── DataError          a data file or a row in it is wrong                          exit code 2
├── ModelError         a model folder or a tokenizer cannot be used                 exit code 2
├── CacheError         a teacher cache is damaged, incomplete or made for something else  exit code 2
├── EndpointError      a server that holds the teacher does not answer as it should  exit code 1
├── ExportError        an artefact cannot be written or does not load               exit code 1
│   └── ArtefactError  an artefact on disk is damaged, or not what its papers say   exit code 2
├── TrainingError      training cannot go on (loss not finite, checkpoint damaged)  exit code 1
├── StageError         a stage of a run failed                                      exit code 1
└── GateError          a measured figure misses its gate                            exit code 3
"""


class DistillError(Exception):
    """Something this project refuses to do, told as what, why and fix.

    Args:
        what: what happened, with the value and its full name.
        why: why it cannot go on.
        fix: what to type or change.
    """

    exit_code = 1

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        self.what, self.why, self.fix = what, why, fix
        lines = [what]
        if why:
            lines.append(f"why: {why}")
        if fix:
            lines.append(f"fix: {fix}")
        super().__init__("\n".join(lines))


class RecipeError(DistillError):
    """A recipe or a command line asks for something impossible."""

    exit_code = 2


class DataError(DistillError):
    """A data file, or a row in it, is wrong."""

    exit_code = 2


class ModelError(DistillError):
    """A model folder or a tokenizer cannot be used."""

    exit_code = 2


class CacheError(DistillError):
    """A teacher cache is damaged, incomplete or made for something else."""

    exit_code = 2


class EndpointError(DistillError):
    """A server that holds the teacher does not answer as it should."""


class ExportError(DistillError):
    """An artefact cannot be written or does not load."""


class ArtefactError(ExportError):
    """An artefact on disk is damaged, or is not what its papers say."""

    exit_code = 2


class TrainingError(DistillError):
    """Training cannot go on."""


class StageError(DistillError):
    """A stage of a run failed."""


class GateError(DistillError):
    """A measured figure misses its gate."""

    exit_code = 3
