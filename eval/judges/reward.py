"""A reward model as a judge: it writes no words, so there is nothing to parse and no order to be swayed by.

Each answer is scored on its own, in its dialogue; a pair goes to the higher reward. A verdict is of another protocol
than a chat judge's, which the judge's name says (`NAME-reward`).
"""

from collections.abc import Iterator, Mapping, Sequence

from distill.data import Message
from distill.errors import RecipeError
from distill.reward import Scorer
from eval.judges.base import JudgeReply
from eval.mt_bench.matches import Match
from eval.mt_bench.verdicts import Verdict, Winner

DIGITS = 4
CONVERSATIONS_PER_BLOCK = 256


class RewardJudge:
    """Judges by rewards; see `eval.judges.base.Judge`.

    Pairs: the winner has the higher reward by more than `margin`, else a tie. Single answers: the calibration's
    1 + 9 sigmoid((reward - mean) / scale), a monotone map that says how an answer stands among the calibration's.

    Args:
        model: what scores, a reward model or an EBRM; single answers need its calibration.
        name: of the model; `-reward` is added.
        margin: difference of rewards up to which a pair is a tie.

    Raises:
        RecipeError: the margin is negative.
    """

    def __init__(self, model: Scorer, *, name: str, margin: float = 0.0) -> None:
        if not margin >= 0:
            raise RecipeError(f"margin is {margin}", why="a difference of rewards of at least 0 was expected")
        self.name, self._model, self._margin = f"{name.removesuffix('-reward')}-reward", model, margin

    @property
    def identity(self) -> Mapping[str, object]:
        """Weights, chat template, calibration and margin."""
        return {"kind": "reward", "model": self._model.identity, "margin": self._margin}

    def judge(self, matches: Sequence[Match]) -> Iterator[tuple[int, JudgeReply]]:
        """Replies block by block, in the order of the matches; an answer that stands in several is scored once.

        Raises:
            RecipeError: single answers are judged without a calibration.
        """
        if self._model.calibration is None and any(match.mode == "single" for match in matches):
            raise RecipeError(
                f"judge {self.name} is to score single answers, and its rewards were never calibrated",
                why="a reward alone says nothing on a scale from 1 to 10",
                fix="judge pairs, or fit the model here, which calibrates it",
            )
        rewards: dict[tuple[Message, ...], float | str] = {}
        for start in range(0, len(matches), CONVERSATIONS_PER_BLOCK):
            block = matches[start : start + CONVERSATIONS_PER_BLOCK]
            self._add_rewards(rewards, block)
            for index, match in enumerate(block, start=start):
                yield index, self._reply([rewards[match.conversation(slot)] for slot in range(len(match.answers))])

    def _add_rewards(self, rewards: dict[tuple[Message, ...], float | str], block: Sequence[Match]) -> None:
        """Scores what is new; what is too long for the model gets the reason instead."""
        shown = (match.conversation(slot) for match in block for slot in range(len(match.answers)))
        new = [conversation for conversation in dict.fromkeys(shown) if conversation not in rewards]
        longest = self._model.max_length_tokens
        fitting = []
        for conversation in new:
            num_tokens = len(self._model.encode(conversation))
            if longest is not None and num_tokens > longest:
                rewards[conversation] = f"the dialogue has {num_tokens} tokens; the reward model reads {longest}"
            else:
                fitting.append(conversation)
        scores = self._model.score(fitting).tolist()
        rewards.update(
            (conversation, round(score, DIGITS)) for conversation, score in zip(fitting, scores, strict=True)
        )

    def _reply(self, rewards: Sequence[float | str]) -> JudgeReply:
        known = [reward for reward in rewards if isinstance(reward, float)]
        if len(known) < len(rewards):
            reason = next(reward for reward in rewards if isinstance(reward, str))
            return JudgeReply("", model=self.name, error=reason)
        if len(known) == 1:
            assert self._model.calibration is not None
            score = round(self._model.calibration.score(known[0]), DIGITS)
            verdict = Verdict("ok", "calibrated_reward", None, score=score)
            return JudgeReply(f"reward {known[0]:.4f}", finish_reason="stop", verdict=verdict, model=self.name)
        difference = known[0] - known[1]
        winner: Winner = "tie" if abs(difference) <= self._margin else "A" if difference > 0 else "B"
        text = f"reward of A {known[0]:.4f}, of B {known[1]:.4f}; a tie up to {self._margin:g}"
        verdict = Verdict("ok", "higher_reward", None, winner=winner)
        return JudgeReply(text, finish_reason="stop", verdict=verdict, model=self.name)
