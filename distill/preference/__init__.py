"""Prompts to answers of the teacher, and to preference pairs: of teacher and student, or from unlabelled texts."""

from distill.preference.answers import teacher_answers
from distill.preference.instruction_fates import InductionSettings, SaferInstructReport
from distill.preference.pairs import PairsReport, PairsSettings, build_pairs, write_pairs_stage
from distill.preference.reversed_instructions import reversed_conversations, reversed_prompt
from distill.preference.safer_instruct import AskedModel, safer_instruct
from distill.preference.screening import judge_prompt, parsed_verdict
from distill.preference.source_texts import TextFileSettings, read_texts, source_lines

__all__ = [
    "AskedModel",
    "InductionSettings",
    "PairsReport",
    "PairsSettings",
    "SaferInstructReport",
    "TextFileSettings",
    "build_pairs",
    "judge_prompt",
    "parsed_verdict",
    "read_texts",
    "reversed_conversations",
    "reversed_prompt",
    "safer_instruct",
    "source_lines",
    "teacher_answers",
    "write_pairs_stage",
]
