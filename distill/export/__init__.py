"""A trained student to artefacts that run elsewhere, each proven near the student it came from."""

from distill.export.artefacts import export_model
from distill.export.fidelity import Fidelity, measure_fidelity, tokenize_chats
from distill.export.formats import FORMATS, MERGED, ExportFormat
from distill.export.gguf import write_gguf
from distill.export.merge import MergeReport, write_merged
from distill.export.report import ArtefactReport, ExportReport, read_artefact, verify_export
from distill.export.settings import ExportSettings
from distill.export.smoke import SmokeReport, expected_answers, smoke_test

__all__ = [
    "FORMATS",
    "MERGED",
    "ArtefactReport",
    "ExportFormat",
    "ExportReport",
    "ExportSettings",
    "Fidelity",
    "MergeReport",
    "SmokeReport",
    "expected_answers",
    "export_model",
    "measure_fidelity",
    "read_artefact",
    "smoke_test",
    "tokenize_chats",
    "verify_export",
    "write_gguf",
    "write_merged",
]
