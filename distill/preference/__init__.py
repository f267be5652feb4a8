"""Prompts to answers of the teacher, and to preference pairs between teacher and student."""

from distill.preference.answers import teacher_answers
from distill.preference.pairs import PairsReport, PairsSettings, build_pairs, write_pairs_stage

__all__ = ["PairsReport", "PairsSettings", "build_pairs", "teacher_answers", "write_pairs_stage"]
