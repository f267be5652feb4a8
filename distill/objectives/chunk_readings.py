"""How the logits of one chunk become values, and the gradients of these the gradient of the logits, in place.

Every reading has two methods. `values` is given logits [chunk, vocab], which it overwrites, and returns the log-probs
of the targets with the terms below them, detached. `logit_gradient` is given what `values` left behind and the gradient
of the values, and returns the gradient of the logits as a matrix M with, where they are not None, a factor r for its
rows and an amount a to be added at the targets: diag(r) M + a at (t, target of t).
"""

from typing import Protocol

import torch
from torch import Tensor

from distill.objectives.chunk_terms import ChunkTerm, ChunkTerms, ForwardKlTerm, ListedTerm

LogitGradient = tuple[Tensor, Tensor | None, Tensor | None]


class ChunkReading(Protocol):
    """One way to read a chunk."""

    def values(self, logits: Tensor, targets: Tensor, tokens: slice, *, keeps_graph: bool) -> Tensor:
        """[1 + terms, chunk]; with `keeps_graph`, `logit_gradient` will be asked before the next chunk."""

    def logit_gradient(self, left: Tensor, targets: Tensor, gradient: Tensor) -> LogitGradient:
        """The gradient of the logits of the chunk whose values were asked for last."""


def reading_of(terms: ChunkTerms) -> ChunkReading:
    """The cheapest reading that gives these terms."""
    if isinstance(terms, ListedTerm):
        return _OfLists(terms)
    if isinstance(terms, ForwardKlTerm):
        return _OfForwardKl(terms)
    return _OfDistributions(tuple(terms)) if terms else _OfTargets()


class _OfTargets:
    """Log-probs of the targets alone; probabilities are left behind."""

    def values(self, logits: Tensor, targets: Tensor, tokens: slice, *, keeps_graph: bool) -> Tensor:
        chosen = logits.gather(1, targets)[:, 0]
        return (chosen - _to_probabilities(logits)[:, 0])[None]

    def logit_gradient(self, left: Tensor, targets: Tensor, gradient: Tensor) -> LogitGradient:
        return left, -gradient[0], gradient[0]


class _OfDistributions:
    """Terms that see all log-probs and are differentiated by autograd; log-probs are left behind."""

    def __init__(self, terms: tuple[ChunkTerm, ...]) -> None:
        self.terms = terms
        self._graph: tuple[Tensor, Tensor] | None = None

    def values(self, logits: Tensor, targets: Tensor, tokens: slice, *, keeps_graph: bool) -> Tensor:
        chosen = logits.gather(1, targets)[:, 0]
        normaliser = torch.logsumexp(logits, dim=1)
        log_probs = logits.sub_(normaliser[:, None])
        with torch.set_grad_enabled(keeps_graph):
            leaf = log_probs.detach().requires_grad_(keeps_graph)
            values = torch.stack([term(leaf, tokens) for term in self.terms])
        if keeps_graph:
            self._graph = (leaf, values)
        return torch.cat([(chosen - normaliser)[None], values.detach()])

    def logit_gradient(self, left: Tensor, targets: Tensor, gradient: Tensor) -> LogitGradient:
        assert self._graph is not None, "values() kept the graph"
        (leaf, values), self._graph = self._graph, None
        of_log_probs = torch.zeros((), dtype=leaf.dtype, device=leaf.device).expand_as(leaf)
        if values.requires_grad:
            (of_log_probs,) = torch.autograd.grad(values, leaf, gradient[1:], allow_unused=True, materialize_grads=True)
        # Autograd may have answered with a view: all writing is done in the buffer.
        sums = of_log_probs.sum(dim=1, keepdim=True) + gradient[0, :, None]
        matrix = torch.addcmul(of_log_probs, left.exp_(), sums, value=-1.0, out=left)
        return matrix.scatter_add_(1, targets, gradient[0, :, None]), None, None


class _OfLists:
    r"""A term on listed tokens and on the rest; the distribution within the rest is left behind, 0 where listed.

    With g the gradient of the listed log-probs and, last, of the rest's, and S their sum and the target's:

    .. math:: \nabla_i = g_i - q_i S, \qquad \nabla_v = \frac{q_v}{q_g} (g_g - q_g S) \text{ for } v \text{ in the rest}
    """

    def __init__(self, term: ListedTerm) -> None:
        self.term = term
        self._graph: tuple[Tensor, Tensor, Tensor, Tensor] | None = None

    def values(self, logits: Tensor, targets: Tensor, tokens: slice, *, keeps_graph: bool) -> Tensor:
        is_listed = self.term.is_listed[tokens]
        ids = torch.where(is_listed, self.term.token_ids[tokens], 0)
        chosen = logits.gather(1, targets)[:, 0]
        listed = logits.gather(1, ids).masked_fill_(~is_listed, -torch.inf)
        # Adding, not writing: entries that do not count change nothing at whatever token stands in for them.
        logits.scatter_add_(1, ids, torch.zeros_like(listed).masked_fill_(is_listed, -torch.inf))
        joint = torch.cat([listed, _rest_to_probabilities(logits)], dim=1)
        normaliser = torch.logsumexp(joint, dim=1)
        with torch.set_grad_enabled(keeps_graph):
            leaf = joint.sub_(normaliser[:, None]).detach().requires_grad_(keeps_graph)
            values = self.term.value(leaf, tokens)
        if keeps_graph:
            self._graph = (leaf, values, ids, is_listed)
        return torch.stack([chosen - normaliser, values.detach()])

    def logit_gradient(self, left: Tensor, targets: Tensor, gradient: Tensor) -> LogitGradient:
        assert self._graph is not None, "values() kept the graph"
        (leaf, values, ids, is_listed), self._graph = self._graph, None
        own = torch.zeros_like(leaf)
        if values.requires_grad:
            (own,) = torch.autograd.grad(values, leaf, gradient[1], allow_unused=True, materialize_grads=True)
        own = torch.where(leaf.detach() == -torch.inf, 0.0, own)
        own = own - leaf.detach().exp() * (own.sum(dim=1, keepdim=True) + gradient[0, :, None])
        left.mul_(own[:, -1:])
        left.scatter_add_(1, ids, torch.where(is_listed, own[:, :-1], 0.0))
        return left.scatter_add_(1, targets, gradient[0, :, None]), None, None


class _OfForwardKl:
    r"""Forward KL from the teacher's logits; probabilities are left behind.

    .. math:: KL = \sum_v p_v (z^T_v - z^S_v) - \log Z_T + \log Z_S, \qquad \nabla_v KL = q_v - p_v
    """

    def __init__(self, term: ForwardKlTerm) -> None:
        self.term = term
        self._teacher: Tensor | None = None

    def values(self, logits: Tensor, targets: Tensor, tokens: slice, *, keeps_graph: bool) -> Tensor:
        chosen = logits.gather(1, targets)[:, 0]
        teacher = self.term.teacher_logits(tokens)
        assert teacher.shape == logits.shape, "one vocabulary"
        difference = teacher - logits
        apart = _to_probabilities(teacher)[:, 0]
        normaliser = _to_probabilities(logits)[:, 0]
        divergence = difference.mul_(teacher).sum(dim=1) - (apart - normaliser)
        self._teacher = teacher if keeps_graph else None
        return torch.stack([chosen - normaliser, divergence])

    def logit_gradient(self, left: Tensor, targets: Tensor, gradient: Tensor) -> LogitGradient:
        assert self._teacher is not None, "values() kept the teacher's probabilities"
        teacher, self._teacher = self._teacher, None
        left.mul_((gradient[1] - gradient[0])[:, None])
        left.addcmul_(teacher, gradient[1, :, None], value=-1.0)
        return left.scatter_add_(1, targets, gradient[0, :, None]), None, None


def _to_probabilities(logits: Tensor) -> Tensor:
    """Turns logits into probabilities in place; returns their logsumexp [chunk, 1]."""
    largest, place = logits.max(dim=1, keepdim=True)
    torch.softmax(logits, dim=1, out=logits)
    # The largest probability is 1 / sum exp(z - max), so its log is what the maximum lacks of the logsumexp.
    return largest - logits.gather(1, place).log_()


def _rest_to_probabilities(logits: Tensor) -> Tensor:
    """The same where a row may hold nothing possible: its sum is -inf, its probabilities are 0."""
    normaliser = _to_probabilities(logits)
    is_empty = normaliser.isnan()
    if bool(is_empty.any()):
        is_empty &= logits.isnan().all(dim=1, keepdim=True)
        logits.masked_fill_(is_empty, 0.0)
        normaliser = normaliser.masked_fill(is_empty, -torch.inf)
    return normaliser
