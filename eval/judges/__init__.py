"""Judges: whoever says how good an answer is, or which of two is better; one protocol, several transports."""

from eval.judges.base import Judge, JudgeReply, call_key
from eval.judges.batch_file import BatchJudge
from eval.judges.chat_request import ChatJudgeSettings
from eval.judges.endpoint import EndpointJudge
from eval.judges.generated import GeneratorJudge
from eval.judges.human import human_votes, read_labels, write_sheet
from eval.judges.logit import LogitJudge
from eval.judges.mock import MockJudge, MockSettings
from eval.judges.replay import ReplayJudge
from eval.judges.reward import RewardJudge
from eval.judges.rubric import Rubric, RubricJudge, read_rubrics, rubric_prompts
from eval.judges.table import JUDGES, JudgeKind, open_judge

__all__ = [
    "JUDGES",
    "BatchJudge",
    "ChatJudgeSettings",
    "EndpointJudge",
    "GeneratorJudge",
    "Judge",
    "JudgeKind",
    "JudgeReply",
    "LogitJudge",
    "MockJudge",
    "MockSettings",
    "ReplayJudge",
    "RewardJudge",
    "Rubric",
    "RubricJudge",
    "call_key",
    "human_votes",
    "open_judge",
    "read_labels",
    "read_rubrics",
    "rubric_prompts",
    "write_sheet",
]
