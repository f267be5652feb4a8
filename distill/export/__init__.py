"""A trained student to artefacts that run elsewhere, each proven near the student it came from."""

from distill.export.artefacts import export_model
from distill.export.fidelity import Fidelity, measure_fidelity, tokenize_chats
from distill.export.formats import FORMATS, MERGED, ExportFormat
from distill.export.gguf import write_gguf
from distill.export.merge import MergeReport, write_merged
from distill.export.recommendation import Recommendation, recommendations
from distill.export.report import ArtefactReport, ExportReport, read_artefact
from distill.export.runtime_cost import RuntimeCost
from distill.export.settings import ExportSettings
from distill.export.size_plot import SizePoint
from distill.export.smoke import SmokeReport, expected_answers, smoke_test
from distill.export.teacher_distance import TeacherDistance, measure_teacher_distance, open_teacher
from distill.export.verify import verify_artefacts, verify_export
from distill.export.weight_error import WeightReport, weight_report

__all__ = [
    "FORMATS",
    "MERGED",
    "ArtefactReport",
    "ExportFormat",
    "ExportReport",
    "ExportSettings",
    "Fidelity",
    "MergeReport",
    "Recommendation",
    "RuntimeCost",
    "SizePoint",
    "SmokeReport",
    "TeacherDistance",
    "WeightReport",
    "expected_answers",
    "export_model",
    "measure_fidelity",
    "measure_teacher_distance",
    "open_teacher",
    "read_artefact",
    "recommendations",
    "smoke_test",
    "tokenize_chats",
    "verify_artefacts",
    "verify_export",
    "weight_report",
    "write_gguf",
    "write_merged",
]
