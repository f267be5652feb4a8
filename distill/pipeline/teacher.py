"""The recipe's teacher: loaded here, or asked through its server; and the student it is compared with."""

from pathlib import Path

from distill.decoding import EndpointGenerator, EndpointSettings, Generator, LinearAlignmentSettings, answering
from distill.errors import RecipeError
from distill.files import fingerprint
from distill.models import LoadedModel, ModelSettings, Quantization, Tokenizer, load_tokenizer
from distill.models.source import locate, read_model_json
from distill.pipeline.run_folder import RunFolder
from distill.teacher_cache import EndpointTeacher, TeacherSource


def described_teacher(run: RunFolder) -> TeacherSource:
    """Where the teacher's weights are, and how the recipe wants them loaded.

    Raises:
        RecipeError: the teacher is behind a server.
    """
    teacher = run.recipe.teacher
    assert teacher is not None
    if teacher.endpoint is not None:
        raise RecipeError(
            f"teacher.endpoint names {teacher.endpoint.model} at {teacher.endpoint.base_url}, and weights are needed",
            why="this stage reads the teacher's hidden states or whole distributions, which a server does not show",
            fix="load the teacher here: teacher.path=FOLDER teacher.endpoint=null",
        )
    return _described(
        run.teacher_source,
        teacher,
        quantization=teacher.quantization,
        revision=teacher.revision,
        chat_template=run.chat_template(teacher),
    )


def described_start(run: RunFolder) -> TeacherSource:
    """The student before preference training; its own template is needed only where stage `sft` saved none.

    What stage `sft` saved says itself on which quantized weights its adapters stand.
    """
    student, is_trained = run.recipe.student, run.recipe.sft is not None
    return _described(
        run.start_source,
        student,
        quantization=None if is_trained else student.quantization,
        revision=None if is_trained else student.revision,
        chat_template=None if is_trained else run.chat_template(student),
    )


def _described(
    source: str | Path,
    settings: ModelSettings,
    *,
    quantization: Quantization | None,
    revision: str | None,
    chat_template: Path | None,
) -> TeacherSource:
    return TeacherSource(
        str(source),
        dtype=settings.dtype,
        device=settings.device,
        placement=settings.placement,
        quantization=quantization,
        revision=revision,
        chat_template=None if chat_template is None else str(chat_template),
    )


def load_teacher(run: RunFolder) -> LoadedModel:
    """The teacher's weights as the recipe asks for them.

    Raises:
        RecipeError: the teacher is behind a server.
    """
    return described_teacher(run).load()


def teacher_tokenizer(run: RunFolder) -> Tokenizer:
    """The teacher's tokenizer with the chat template that the recipe gives it; no weights are read."""
    teacher = run.recipe.teacher
    assert teacher is not None
    return load_tokenizer(run.teacher_source, revision=teacher.revision, chat_template=run.chat_template(teacher))


def teacher_generator(run: RunFolder, alignment: LinearAlignmentSettings | None = None) -> tuple[Generator, str]:
    """What answers as the teacher, and a fingerprint of the model behind it and of what steers it."""
    teacher = run.recipe.teacher
    assert teacher is not None
    if teacher.endpoint is None:
        loaded = load_teacher(run)
        if alignment is None:
            return answering(loaded, None), loaded.fingerprint
        made_of = fingerprint([loaded.fingerprint, alignment.model_dump(mode="json")])
        return answering(loaded, alignment), made_of
    assert alignment is None, "the recipe refuses to steer a server's answers"
    served = teacher_behind_server(run, teacher.endpoint)
    return EndpointGenerator(teacher.endpoint, teacher_tokenizer(run)), served.identity.fingerprint


def teacher_scorer(run: RunFolder) -> TeacherSource | EndpointTeacher:
    """What fills the teacher's cache."""
    teacher = run.recipe.teacher
    assert teacher is not None
    if teacher.endpoint is None:
        return described_teacher(run)
    return teacher_behind_server(run, teacher.endpoint)


def teacher_behind_server(run: RunFolder, settings: EndpointSettings) -> EndpointTeacher:
    """The server's model, with the padding of its vocabulary where the folder of its tokenizer tells it."""
    assert run.recipe.teacher is not None
    folder = locate(run.teacher_source, revision=run.recipe.teacher.revision, with_weights=False).folder
    config = read_model_json(folder / "config.json") if (folder / "config.json").exists() else {}
    vocab_size = config.get("vocab_size")
    return EndpointTeacher(
        settings, teacher_tokenizer(run), vocab_size=vocab_size if isinstance(vocab_size, int) else None
    )
