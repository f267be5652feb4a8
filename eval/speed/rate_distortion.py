"""Bytes a token against distance from the teacher, for every codec and for what others store.

    python -m eval.speed.rate_distortion [--distillkit FOLDER] [--json FILE]

Three teachers: the embedded one on its own test dialogues, and wide bfloat16 ones of random weights whose heads are
scaled to the entropy of a trained model, one with columns of equal weight and one with columns whose weight decays. The
reference is the final hidden state through the head in float32. Prints one JSON line.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from distill.data import TokenizedSequence, tokenize_completion
from distill.data.records import messages_from
from distill.embedded import draw
from distill.files import write_json
from distill.models import LoadedModel, load_model, output_head
from distill.numerics import log_softmax
from distill.objectives.output_head import OutputHead
from distill.process import keep_freed_memory
from distill.teacher_cache.codecs import HeadShape
from eval.distortion import Distortion, angle_degrees, distortion, head_gradient
from eval.published import command_of, published_benchmark
from eval.scored_tokens import ScoredTokens, scored_tokens
from eval.speed.candidates import Block, Candidate, candidates_for
from eval.speed.distillkit import DistillKit, find_distillkit
from eval.speed.figures import RateDistortion, RatePoint, TeacherRates
from eval.speed.teachers import TeacherShape, mean_entropy_nats, peaked_head, random_sequences, random_teacher

WIDE = TeacherShape(vocab_size=32_000, hidden_size=1024, num_layers=2, num_heads=16, intermediate_size=2816)
WIDE_ENTROPY_NATS = 2.0  # about what a good model's loss leaves on web text
WIDE_HEADS = {  # by how much column j of the head weighs: j^-decay
    "A wide bfloat16 teacher of random weights": 0.0,
    "The same, few directions of its states deciding most of a logit": 1.1,
}
STUDENT_NOISE = 0.5  # of the hidden states' own size
BLOCK_TOKENS = 256


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(prog="python -m eval.speed.rate_distortion", description=__doc__.splitlines()[0])
    parser.add_argument("--distillkit", type=Path, help="where DistillKit is installed, if not in this environment")
    parser.add_argument("--tokens", type=int, default=1024, help="of each teacher")
    parser.add_argument("--json", type=Path, help="write the figures with machine, versions and date")
    options = parser.parse_args(arguments)
    keep_freed_memory()  # as the command does
    started = time.perf_counter()
    peer = find_distillkit(options.distillkit)
    teachers = (_embedded_rates(options.tokens, peer), *_wide_rates(options.tokens, peer))
    figures = RateDistortion(teachers=teachers, notes=notes(peer))
    print(figures.model_dump_json())
    if options.json is not None:
        installed = [] if options.distillkit is None else [("distillkit", "FOLDER")]
        command = command_of("eval.speed.rate_distortion", [("tokens", options.tokens), *installed])
        result = published_benchmark(figures, command=command, elapsed_s=time.perf_counter() - started)
        write_json(options.json, result.model_dump(mode="json"))


def notes(peer: DistillKit | None) -> tuple[str, ...]:
    """How the table is to be read."""
    origin = (
        "DistillKit was not installed, so its rows are missing" if peer is None else f"DistillKit is {peer.version}"
    )
    return (
        "KL is of the teacher to what is stored, mean over tokens; ∞ where a token that the teacher allows is stored "
        "as impossible. The tail of a list is spread evenly over the tokens not in it, also for DistillKit, whose "
        "default drops it. Bytes are those of a token's row: `exact` and `exact-int8` store the head once besides",
        "The gradient angle lies between the gradients of a student's head from the stored and from the whole "
        "distributions, summed over all tokens. Bias stays in it however many they are, the noise of draws "
        f"shrinks with the square root of their number. The student is the teacher with {100 * STUDENT_NOISE:.0f} % "
        "noise on its hidden states",
        origin,
    )


def measure(
    name: str, tokens: ScoredTokens, head: OutputHead, *, candidates: Sequence[Candidate], seed: int = 0
) -> TeacherRates:
    """All candidates on the same tokens."""
    blocks = list(_blocks(tokens, head, seed=seed))
    whole = _gradient(blocks, [block.log_probs for block in blocks])
    student = [distortion(block.log_probs, block.student_log_probs) for block in blocks]
    return TeacherRates(
        teacher=name,
        vocab_size=head.weight.shape[0],
        hidden_size=head.weight.shape[1],
        num_tokens=len(tokens.target_ids),
        entropy_nats=mean_entropy_nats(torch.cat([block.log_probs for block in blocks])),
        student_kl_nats=float(torch.cat([part.kl_nats for part in student]).mean()),
        points=tuple(_point(candidate, blocks, whole) for candidate in candidates),
    )


def _point(candidate: Candidate, blocks: Sequence[Block], whole: Tensor) -> RatePoint:
    num_bytes, parts, gradient = 0, [], torch.zeros_like(whole)
    for block in blocks:
        size_bytes, log_probs = candidate.store(block)
        num_bytes += size_bytes
        parts.append(distortion(block.log_probs, log_probs))
        gradient += head_gradient(block.student_log_probs, log_probs, block.student_hidden_states)
    return _summed(candidate, num_bytes, parts, angle=angle_degrees(gradient, whole))


def _summed(candidate: Candidate, num_bytes: int, parts: Sequence[Distortion], *, angle: float) -> RatePoint:
    kl = torch.cat([part.kl_nats for part in parts])
    is_finite = bool(kl.isfinite().all())
    return RatePoint.model_validate(
        {
            "name": candidate.name,
            "origin": candidate.origin,
            "bytes_per_token": num_bytes / len(kl),
            "kl_nats": float(kl.mean()) if is_finite else None,
            "max_kl_nats": float(kl.max()) if is_finite else None,
            "total_variation": float(torch.cat([part.total_variation for part in parts]).mean()),
            "top_1_agreement": float(torch.cat([part.is_top_1_equal for part in parts]).double().mean()),
            "gradient_angle_degrees": angle,
        }
    )


def _blocks(tokens: ScoredTokens, head: OutputHead, *, seed: int) -> Iterator[Block]:
    """Runs of whole sequences of at least `BLOCK_TOKENS` tokens, the last one of what is left."""
    generator = torch.Generator().manual_seed(seed)
    first = start = 0
    for number, end in enumerate(torch.tensor(tokens.lengths).cumsum(0).tolist(), start=1):
        if end - start < BLOCK_TOKENS and number < len(tokens.lengths):
            continue
        part = ScoredTokens(
            tokens.hidden_states[start:end],
            tokens.target_ids[start:end],
            tokens.sequence_ids[first:number],
            tokens.lengths[first:number],
        )
        noise = torch.randn(part.hidden_states.shape, generator=generator)
        student = part.hidden_states + STUDENT_NOISE * part.hidden_states.std() * noise
        log_probs = log_softmax(head.logits(part.hidden_states))
        yield Block(part, head, log_probs, student, log_softmax(head.logits(student)))
        first, start = number, end


def _gradient(blocks: Sequence[Block], stored: Sequence[Tensor]) -> Tensor:
    return torch.stack(
        [
            head_gradient(block.student_log_probs, log_probs, block.student_hidden_states)
            for block, log_probs in zip(blocks, stored, strict=True)
        ]
    ).sum(0)


def _embedded_rates(num_tokens: int, peer: DistillKit | None) -> TeacherRates:
    loaded = load_model("embedded")
    head = output_head(loaded.model)
    tokens = scored_tokens(loaded, held_out_answers(loaded, num_tokens=num_tokens))
    shape = HeadShape(*head.weight.shape)
    return measure(
        "The embedded teacher on its test dialogues", tokens, head, candidates=candidates_for(peer, shape=shape)
    )


def _wide_rates(num_tokens: int, peer: DistillKit | None) -> list[TeacherRates]:
    """A bfloat16 model's final norm ends in bfloat16, so its states are rounded here; what that costs is told apart."""
    loaded = random_teacher(WIDE, seed=0)
    sequences = random_sequences(
        num_prompts=max(1, num_tokens // 256),
        prompt_tokens=16,
        completion_tokens=128,
        vocab_size=WIDE.vocab_size,
        seed=0,
    )
    tokens = scored_tokens(loaded, sequences)
    rounded = replace(tokens, hidden_states=tokens.hidden_states.bfloat16().float())
    flat = output_head(loaded.model)
    candidates = candidates_for(peer, shape=HeadShape(*flat.weight.shape))
    found = []
    for name, decay in WIDE_HEADS.items():
        head = peaked_head(flat, rounded.hidden_states, entropy_nats=WIDE_ENTROPY_NATS, decay=decay)
        rates = measure(name, rounded, head, candidates=candidates)
        cost = rounding_kl_nats(tokens.hidden_states, head)
        found.append(rates.model_copy(update={"float32_exact_kl_nats": cost}))
    return found


def rounding_kl_nats(hidden_states: Float[Tensor, "tokens hidden"], head: OutputHead) -> float:
    """What `exact` costs a float32 teacher; a bfloat16 teacher's states are rounded already."""
    parts = [
        distortion(head.logits(states), head.logits(states.bfloat16().float())).kl_nats
        for states in torch.split(hidden_states, BLOCK_TOKENS)
    ]
    return float(torch.cat(parts).mean())


def held_out_answers(loaded: LoadedModel, *, num_tokens: int) -> list[TokenizedSequence]:
    """Last answers of test dialogues after everything before them, `num_tokens` completion tokens or a few more."""
    found: list[TokenizedSequence] = []
    for row in draw("test", num_dialogues=num_tokens, seed=0):
        messages = messages_from(row["messages"], where=str(row["id"]))
        sequence = tokenize_completion(loaded.tokenizer, messages[:-1], messages[-1].content, max_length_tokens=512)
        if sequence is not None:
            found.append(sequence)
        if sum(len(sequence.completion_ids) for sequence in found) >= num_tokens:
            break
    return found


if __name__ == "__main__":
    main()
