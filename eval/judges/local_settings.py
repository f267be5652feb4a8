"""Settings of the judges that run in this process, and how each is opened."""

from pathlib import Path

from pydantic import Field

from distill.decoding import SamplingSettings, TransformersGenerator
from distill.errors import RecipeError
from distill.files import fingerprint
from distill.models import DtypeName, LoadedModel, Quantization, load_model
from distill.reward import load_energy_model, load_reward_model
from distill.settings import Settings
from eval.judges.generated import GeneratorJudge
from eval.judges.logit import LogitJudge
from eval.judges.reward import RewardJudge
from eval.judges.rubric import RUBRICS_PATH, Rubric, read_rubrics


class LocalModelSettings(Settings):
    """A chat model that judges in this process."""

    model: str = Field(description="a folder, a hub id, or `embedded`")
    revision: str | None = Field(None, description="of a hub id")
    dtype: DtypeName = Field("float32", description="of weights and activations")
    device: str = Field("auto", description="auto: cuda where there is one, else cpu")
    quantization: Quantization | None = Field(None, description="bitsandbytes format of the weights")


class LogitJudgeSettings(LocalModelSettings):
    """A judge by next-token probabilities."""

    max_tokens: int = Field(16_384, gt=0, description="prompt tokens of a batch; changes speed only")
    max_rows: int = Field(32, gt=0, description="prompts of a batch; changes speed only")


class LocalTextJudgeSettings(LocalModelSettings):
    """A judge that writes its verdicts."""

    temperature: float = Field(0.0, ge=0, description="0: the likeliest words")
    max_new_tokens: int = Field(1024, gt=0, description="longest reply; a longer one is asked for once more with twice")
    batch_size: int = Field(16, gt=0, description="prompts at once; changes speed only")
    seed: int = Field(0, description="of the draws, raised by one with each repeat")


class RewardJudgeSettings(Settings):
    """A judge by the rewards of a scalar-head model."""

    model: str = Field(description="a folder or a hub id of a sequence classifier with one label")
    revision: str | None = Field(None, description="of a hub id")
    dtype: DtypeName = Field("float32", description="of weights and activations")
    device: str = Field("auto", description="auto: cuda where there is one, else cpu")
    margin: float = Field(0.0, ge=0, description="difference of rewards up to which a pair is a tie")


class EbrmJudgeSettings(Settings):
    """A judge by the refined rewards of an EBRM."""

    model: Path = Field(description="a folder that stage `reward` or `save_energy_model` wrote")
    dtype: DtypeName = Field("float32", description="of the base model's weights and activations")
    device: str = Field("auto", description="auto: cuda where there is one, else cpu")
    margin: float = Field(0.0, ge=0, description="difference of rewards, in the base model's units, up to a tie")


class RubricSettings(Settings):
    """The criterion of a rubric judge, and where rubrics of one's own are."""

    criterion: str = Field(description="the name of a rubric")
    rubrics: Path | None = Field(
        None, description="a rubrics.jsonl; null: correctness, instructions, completeness, clarity"
    )


def open_logit_judge(settings: LogitJudgeSettings, *, name: str | None = None) -> LogitJudge:
    """Loads the model.

    Raises:
        ModelError: it cannot be loaded.
    """
    loaded = _loaded(settings)
    return LogitJudge(
        loaded,
        name=name or _name_of(settings.model),
        max_tokens=settings.max_tokens,
        max_rows=settings.max_rows,
    )


def open_text_judge(settings: LocalTextJudgeSettings, *, name: str | None = None) -> GeneratorJudge:
    """Loads the model.

    Raises:
        ModelError: it cannot be loaded.
    """
    loaded = _loaded(settings)
    return GeneratorJudge(
        TransformersGenerator(loaded),
        name=name or _name_of(settings.model),
        model_fingerprint=fingerprint([loaded.fingerprint, settings.dtype]),
        sampling=SamplingSettings(
            temperature=settings.temperature, max_new_tokens=settings.max_new_tokens, batch_size=settings.batch_size
        ),
        seed=settings.seed,
    )


def open_reward_judge(settings: RewardJudgeSettings, *, name: str | None = None) -> RewardJudge:
    """Loads the reward model.

    Raises:
        ModelError: it cannot be loaded.
    """
    model = load_reward_model(settings.model, dtype=settings.dtype, device=settings.device, revision=settings.revision)
    return RewardJudge(model, name=name or _name_of(settings.model), margin=settings.margin)


def open_ebrm_judge(settings: EbrmJudgeSettings, *, name: str | None = None) -> RewardJudge:
    """Loads the EBRM.

    Raises:
        ModelError: the folder holds none, or it cannot be loaded.
    """
    model = load_energy_model(settings.model, dtype=settings.dtype, device=settings.device)
    return RewardJudge(model, name=name or f"{settings.model.name}-ebrm", margin=settings.margin)


def chosen_rubric(settings: RubricSettings) -> Rubric:
    """The rubric that the settings name.

    Raises:
        DataError: the file is missing or wrong.
        RecipeError: it holds no such rubric.
    """
    rubrics = read_rubrics(settings.rubrics or RUBRICS_PATH)
    if settings.criterion not in rubrics:
        raise RecipeError(
            f"criterion is {settings.criterion!r}", why=f"there are: {', '.join(rubrics)}", fix="name one of these"
        )
    return rubrics[settings.criterion]


def _loaded(settings: LocalModelSettings) -> LoadedModel:
    return load_model(
        settings.model,
        dtype=settings.dtype,
        device=settings.device,
        quantization=settings.quantization,
        revision=settings.revision,
    )


def _name_of(model: str) -> str:
    """A folder's own name; of a hub id, which has a `/`, both parts."""
    return Path(model).name if Path(model).exists() else model.replace("/", "__")
