"""MT-Bench's shape in FastChat's files: questions of several turns, models' answers, judges' verdicts on them."""

from eval.mt_bench.answers import ModelAnswer, answer_questions, read_answers
from eval.mt_bench.failures import MAX_FAILURE_RATE, require_few_failures
from eval.mt_bench.judge_prompts import JudgePrompt, fill, read_judge_prompts, write_judge_prompts
from eval.mt_bench.judgments import PairJudgment, SingleJudgment, read_pair, read_single, write_pair, write_single
from eval.mt_bench.layout import answer_files, judgment_file
from eval.mt_bench.questions import Question, embedded_questions, read_questions, write_questions
from eval.mt_bench.references import read_references
from eval.mt_bench.show import fastchat_pair, fastchat_single
from eval.mt_bench.strict import key_verdicts, strict_single
from eval.mt_bench.strict_pair import pair_verdicts, strict_pair
from eval.mt_bench.verdicts import Verdict, read_score, read_winner, verdict_text

__all__ = [
    "MAX_FAILURE_RATE",
    "JudgePrompt",
    "ModelAnswer",
    "PairJudgment",
    "Question",
    "SingleJudgment",
    "Verdict",
    "answer_files",
    "answer_questions",
    "embedded_questions",
    "fastchat_pair",
    "fastchat_single",
    "fill",
    "judgment_file",
    "key_verdicts",
    "pair_verdicts",
    "read_answers",
    "read_judge_prompts",
    "read_pair",
    "read_questions",
    "read_references",
    "read_score",
    "read_single",
    "read_winner",
    "require_few_failures",
    "strict_pair",
    "strict_single",
    "verdict_text",
    "write_judge_prompts",
    "write_pair",
    "write_questions",
    "write_single",
]
