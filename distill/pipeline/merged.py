"""The end of a LoRA or QLoRA run: its adapters and their base as one checkpoint that loads anywhere."""

import logging
from pathlib import Path

from distill.export import write_merged
from distill.models import find_source
from distill.training import is_main_rank

log = logging.getLogger(__name__)

MERGED_NAME = "merged"


def with_merged_checkpoint(stage: Path) -> dict[str, object]:
    """Writes `merged/` beside the adapters in a stage's `model/`; of a student without adapters nothing.

    It is kept in float32, so that its logits are base and adapters' to `LOGIT_TOLERANCE`, which is checked; exports
    round it to what they are asked for. Under a launcher the main process writes it.

    Returns:
        What the stage's summary says of it.

    Raises:
        ExportError: the merged weights say something else than base and adapters.
    """
    model = stage / "model"
    if not is_main_rank() or find_source(model).kind != "adapter":
        return {}
    folder = stage / MERGED_NAME
    report = write_merged(model, folder, dtype="float32")
    log.info("merged adapters and base: %s, logits within %.2g", folder, report.merge_delta)
    return {"merged_folder": str(folder), "merge_delta": report.merge_delta}
