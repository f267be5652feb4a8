"""A chat template from a file of its own, for tokenizers that come without one."""

from pathlib import Path

import jinja2

from distill.data.templates import without_generation_markers
from distill.errors import ModelError

# What transformers allows in a template beside plain jinja.
_EXTENSIONS = ["jinja2.ext.loopcontrols"]


def read_chat_template(path: Path) -> str:
    """The jinja source in `path`.

    Raises:
        ModelError: the file is missing, is no text, is empty, or is no jinja.
    """
    try:
        template = path.read_text(encoding="utf-8")
        jinja2.Environment(extensions=_EXTENSIONS, autoescape=True).parse(without_generation_markers(template))
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"chat template {path} cannot be read", why=str(error), fix="check chat_template") from error
    except jinja2.TemplateSyntaxError as error:
        raise ModelError(
            f"chat template {path} is no jinja", why=f"line {error.lineno}: {error.message}", fix="mend the template"
        ) from error
    if not template.strip():
        raise ModelError(f"chat template {path} is empty", why="chats would all be rendered as nothing")
    return template
