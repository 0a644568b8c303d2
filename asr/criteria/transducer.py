"""The RNN transducer (Graves 2012) with the joint network of Graves, Mohamed & Hinton (2013).

Every node of a lattice of T' × (U + 1) has a distribution over blank, which goes to the next frame,
and the phones, of which one goes to the next position. It depends on the frame and, unlike with
CTC, on the phones before. The loss sums over all ways through the lattice, each of T' blanks and U
phones.

Not here: the sum over the lattice (torchaudio's), and the equations of the LSTM (`asr.lstm`).
"""

import copy
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torchaudio.functional import rnnt_loss

from asr.batch import Batch, length_mask, pad
from asr.criteria.base import Criterion, CriterionConfig, Path, SearchConfig, Span, Split
from asr.errors import DataError
from asr.knobs import knob
from asr.lstm import RecurrentLayer, State
from asr.search.language_model import Graph, no_language_model

log = logging.getLogger(__name__)

BLANK = 0
PRETRAINING_BATCH = 32  # transcripts
PRETRAINING_RATE = 2e-3  # of Adam

Transcripts = Sequence[Sequence[int]]  # labels


@dataclass(frozen=True)
class TransducerConfig(CriterionConfig):
    """Sizes of the prediction and the joint network, and what bounds memory and search."""

    name: str = "transducer"
    cell: str = knob("lstm", "of the prediction network", one_of=("lstm", "peephole"))
    hidden: int = knob(250, "cells of the prediction network", at_least=1)
    joint: int = knob(250, "width of the joint network", at_least=1)
    lattice: int = knob(
        4_000_000, "most logits in memory at once, N × T' × (U + 1) × V", at_least=1
    )
    phones_per_frame: int = knob(2, "most phones that a search finds in a frame", at_least=1)
    pretraining: int = knob(
        0, "epochs of the prediction network alone, on the transcripts", at_least=0
    )


class Prediction(nn.Module):
    """One recurrent layer over the phones so far; before the first phone it sees a zero vector."""

    def __init__(self, cell: str, hidden: int, vocabulary_size: int) -> None:
        super().__init__()
        self.vocabulary_size = vocabulary_size
        self.layer = RecurrentLayer(cell, vocabulary_size - 1, hidden, bidirectional=False)

    def forward(self, targets: Tensor, target_lengths: Tensor) -> Tensor:
        """Outputs before each phone and behind the last: (N, U), (N,) → (N, U + 1, H)."""
        inputs = self._one_hot(F.pad(targets, (1, 0)))
        return self.layer(inputs, target_lengths + 1)  # type: ignore[no-any-return]

    def start(self, count: int) -> State:
        """The state of `count` hypotheses without phones."""
        (cell,) = self.layer.cells
        state = cell.start(count)
        return self.step(torch.full((count,), BLANK, device=state.hidden.device), state)

    def step(self, labels: Tensor, state: State) -> State:
        """The state after one more phone of each hypothesis: (N,), state → state."""
        (cell,) = self.layer.cells
        return cell.step(self._one_hot(labels), state)[0]

    def _one_hot(self, labels: Tensor) -> Tensor:
        """(…) → (…, V − 1); the blank, at the start and in padding, is the zero vector."""
        return F.one_hot(labels, self.vocabulary_size)[..., 1:].float()


class Joint(nn.Module):
    """From a frame and the phones before it to logits (Graves, Mohamed & Hinton 2013).

        l_t = W_l e_t + b_l
        h_tu = tanh(W_lh l_t + W_ph p_u + b_h)
        y_tu = W_y h_tu + b_y

    e is the encoder's output, p the prediction network's. Only the tanh and W_y are computed for
    each node of the lattice, all else once for each frame or each prefix.
    """

    def __init__(self, input_size: int, hidden: int, width: int, vocabulary_size: int) -> None:
        super().__init__()
        self.transmission = nn.Linear(input_size, width)
        self.from_transmission = nn.Linear(width, width, bias=False)
        self.from_prediction = nn.Linear(hidden, width)
        self.output = nn.Linear(width, vocabulary_size)

    def of_frames(self, encoded: Tensor) -> Tensor:
        """W_lh l: (…, D) → (…, J)."""
        return self.from_transmission(self.transmission(encoded))  # type: ignore[no-any-return]

    def of_prefixes(self, predicted: Tensor) -> Tensor:
        """W_ph p + b_h: (…, H) → (…, J)."""
        return self.from_prediction(predicted)  # type: ignore[no-any-return]

    def forward(self, frames: Tensor, prefixes: Tensor) -> Tensor:
        """Logits of the nodes that broadcasting makes: (…, J), (…, J) → (…, V)."""
        return self.output(hidden(frames, prefixes))  # type: ignore[no-any-return]


def hidden(frames: Tensor, prefixes: Tensor) -> Tensor:
    """h of the joint network: (…, J), (…, J) → (…, J)."""
    return (frames + prefixes).tanh_()


class Transducer(Criterion):
    """Prediction and joint network, their loss, greedy and beam search."""

    def __init__(self, config: TransducerConfig, input_size: int, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        self.vocabulary_size = vocabulary_size
        self.prediction = Prediction(config.cell, config.hidden, vocabulary_size)
        self.joint = Joint(input_size, config.hidden, config.joint, vocabulary_size)

    # ── loss ─────────────────────────────────────────────────────────────────────────────────

    def loss(self, encoded: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
        """Lattices are built piece by piece, so that at most `config.lattice` is in memory."""
        require_learnable(lengths, batch, self.vocabulary_size)
        frames = self.joint.of_frames(encoded)
        prefixes = self.joint.of_prefixes(self.prediction(batch.targets, batch.target_lengths))
        pieces = self._pieces(lengths.tolist(), batch.target_lengths.tolist())
        return _LatticeLoss.apply(  # type: ignore[no-any-return, no-untyped-call]
            (lengths, batch.targets, batch.target_lengths),
            list(pieces),
            torch.is_grad_enabled(),
            frames,
            prefixes,
            self.joint.output.weight,
            self.joint.output.bias,
        )

    def _pieces(self, lengths: Sequence[int], target_lengths: Sequence[int]) -> Iterator[slice]:
        """Neighbours whose padded lattices together stay within `config.lattice`, at least one."""
        begin, longest, most = 0, 0, 0
        for n, (length, phones) in enumerate(zip(lengths, target_lengths, strict=True)):
            longest, most = max(longest, length), max(most, phones)
            logits = (n + 1 - begin) * longest * (most + 1) * self.vocabulary_size
            if logits > self.config.lattice and n > begin:
                yield slice(begin, n)
                begin, longest, most = n, length, phones
        yield slice(begin, len(lengths))

    # ── search ───────────────────────────────────────────────────────────────────────────────

    def emissions(self, encoded: Tensor) -> Tensor:
        return self.joint.of_frames(encoded)

    @torch.no_grad()
    def search(
        self,
        emissions: Tensor,
        lengths: Tensor,
        search: SearchConfig,
        language_model: Graph | None = None,
    ) -> list[list[Path]]:
        """`emissions` are frames as the joint network takes them in, (N, T', J)."""
        if emissions.isnan().any():
            raise DataError("the network's outputs are not numbers; was it trained?")
        if search.beam == 1:
            return [[path] for path in self._greedy_search(emissions, lengths, search)]
        graph = language_model or no_language_model(self.vocabulary_size)
        return _BeamSearch(self, search, graph).paths(emissions, lengths)

    def tunable(self, search: SearchConfig) -> tuple[str, ...]:
        """In a beam a blank penalty is idle: every result has as many blanks as frames."""
        if search.beam == 1:
            return ("blank_penalty",)
        return ("lm_weight", "bonus") if search.language_model else ("bonus",)

    def _greedy_search(self, frames: Tensor, lengths: Tensor, search: SearchConfig) -> list[Path]:
        """The likeliest step from every node, of all utterances at once: (N, T', J), (N,) → N."""
        rows = torch.arange(len(frames), device=frames.device)
        hidden, cell = self.prediction.start(len(frames))
        assert cell is not None
        prefixes = self.joint.of_prefixes(hidden)
        frame, here = torch.zeros_like(lengths), torch.zeros_like(lengths)  # here: phones in it
        scores = torch.zeros(len(frames), dtype=torch.float64, device=frames.device)
        emitted: list[list[_Emission]] = [[] for _ in rows]
        while (running := frame < lengths).any():
            seen = frames[rows, frame.clamp(max=frames.shape[1] - 1)]
            log_probs = self.joint(seen, prefixes).log_softmax(dim=1, dtype=torch.float64)
            log_probs[:, BLANK] -= search.blank_penalty
            full = here == self.config.phones_per_frame
            log_probs[:, 1:].masked_fill_(full.unsqueeze(1), -math.inf)
            gains, labels = log_probs.max(dim=1)
            scores += gains.where(running, 0.0)
            grown = (running & (labels != BLANK)).nonzero().squeeze(1)
            if len(grown):
                new = torch.stack([grown, labels[grown], frame[grown]], 1).tolist()
                for (n, label, t), gain in zip(new, gains[grown].tolist(), strict=True):
                    emitted[n].append(_Emission(label, t, math.exp(gain)))
                after = self.prediction.step(labels[grown], State(hidden[grown], cell[grown]))
                assert after.cell is not None
                hidden[grown], cell[grown] = after.hidden, after.cell
                prefixes[grown] = self.joint.of_prefixes(after.hidden)
            stays = labels == BLANK
            frame, here = frame + stays, (here + 1).where(~stays, 0)
        return [_path(found, score) for found, score in zip(emitted, scores.tolist(), strict=True)]

    # ── alignment ────────────────────────────────────────────────────────────────────────────

    @torch.no_grad()
    def align(
        self, encoded: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor
    ) -> list[list[Span]]:
        """The likeliest way through each lattice with no more than one label in a frame.

        The lattice itself lets a frame have several, but then they would have no frame of their
        own. A span is the one frame in which its label is emitted.
        """
        self.require_frames(lengths, targets, target_lengths)
        frames = self.joint.of_frames(encoded)
        prefixes = self.joint.of_prefixes(self.prediction(targets, target_lengths))
        return [
            self._align(frames[n, :length], prefixes[n, : phones + 1], targets[n, :phones])
            for n, (length, phones) in enumerate(
                zip(lengths.tolist(), target_lengths.tolist(), strict=True)
            )
        ]

    def _align(self, frames: Tensor, prefixes: Tensor, labels: Tensor) -> list[Span]:
        """Viterbi over one lattice: (T', J), (U + 1, J), (U,) → U."""
        stay, emit = self._steps(frames, prefixes, labels)
        best = np.full(len(labels) + 1, -np.inf)  # after a frame, by the number of labels so far
        best[0] = 0.0
        grew = np.zeros(stay.shape, dtype=bool)
        for t in range(len(stay)):
            longer = np.concatenate([[-np.inf], best[:-1] + emit[t]])
            grew[t] = longer > best
            best = np.maximum(best, longer) + stay[t]
        spans = []
        u = len(labels)
        for t in reversed(range(len(stay))):
            if grew[t, u]:
                u -= 1
                spans.append(Span(t, t + 1, math.exp(emit[t, u])))
        return spans[::-1]

    def _steps(
        self, frames: Tensor, prefixes: Tensor, labels: Tensor
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Log-probabilities of all blanks, (T', U + 1), and of the labels, (T', U).

        Not more than `config.lattice` logits are in memory at once, or one frame.
        """
        at_once = max(1, self.config.lattice // (len(prefixes) * self.vocabulary_size))
        stay, emit = [], []
        for some in torch.split(frames, at_once):
            nodes = self.joint(some.unsqueeze(1), prefixes.unsqueeze(0))
            log_probs = nodes.log_softmax(dim=2, dtype=torch.float64)
            stay.append(log_probs[:, :, BLANK])
            at = labels.expand(len(some), -1).unsqueeze(2)
            emit.append(log_probs[:, :-1].gather(2, at).squeeze(2))
        return torch.cat(stay).cpu().numpy(), torch.cat(emit).cpu().numpy()

    # ── transcripts alone ────────────────────────────────────────────────────────────────────

    def prepare(self, train: Split, dev: Split) -> None:
        if self.config.pretraining:
            self.pretrain(list(train.transcripts), list(dev.transcripts))

    def pretrain(self, transcripts: Transcripts, held_out: Transcripts) -> float:
        """Train the prediction network to tell the next phone, for `config.pretraining` epochs.

        The weights are those with the lowest perplexity on `held_out`, which is returned. A linear
        layer of its own, with the blank for the end, is thrown away (Graves, Mohamed & Hinton
        2013). Draws from torch's generator.
        """
        head = nn.Linear(
            self.config.hidden, self.vocabulary_size, device=self.joint.output.weight.device
        )
        weights = [*self.prediction.parameters(), *head.parameters()]
        optimizer = torch.optim.Adam(weights, lr=PRETRAINING_RATE)
        lowest, best = math.inf, self.prediction.state_dict()
        for epoch in range(1, self.config.pretraining + 1):
            order = torch.randperm(len(transcripts)).tolist()
            for begin in range(0, len(order), PRETRAINING_BATCH):
                chosen = order[begin : begin + PRETRAINING_BATCH]
                optimizer.zero_grad(set_to_none=True)
                self._surprise(head, [transcripts[n] for n in chosen]).mean().backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            with torch.no_grad():
                perplexity = float(self._surprise(head, held_out).mean().exp())
            log.info("prediction network, epoch %d: perplexity %.2f", epoch, perplexity)
            if perplexity < lowest:
                lowest, best = perplexity, copy.deepcopy(self.prediction.state_dict())
        self.prediction.load_state_dict(best)
        return lowest

    def _surprise(self, head: nn.Linear, transcripts: Transcripts) -> Tensor:
        """−log P of every phone and every end, in nats: N × U → (phones + N,)."""
        device = head.weight.device
        targets, lengths = (
            part.to(device)
            for part in pad([torch.tensor(one, dtype=torch.long) for one in transcripts])
        )
        real = length_mask(lengths + 1, targets.shape[1] + 1)
        logits = head(self.prediction(targets, lengths))
        return F.cross_entropy(logits[real], F.pad(targets, (0, 1))[real], reduction="none")


class _LatticeLoss(torch.autograd.Function):
    """Losses of a batch, piece after piece, each with its gradients while its lattices are there.

    What is kept for the backward pass has no lattice in it, but gradients of the output layer for
    each utterance, since the caller may weigh utterances differently.
    """

    @staticmethod
    def forward(
        ctx: Any,
        labels: tuple[Tensor, ...],
        pieces: list[slice],
        with_gradients: bool,
        frames: Tensor,
        prefixes: Tensor,
        weight: Tensor,
        bias: Tensor,
    ) -> Tensor:
        losses, gradients = [], []
        for piece in pieces:
            count = piece.stop - piece.start
            views = (
                frames[piece],
                prefixes[piece],
                weight.expand(count, -1, -1),
                bias.expand(count, -1),
            )
            inputs = [view.detach().requires_grad_(with_gradients) for view in views]
            with torch.set_grad_enabled(with_gradients):
                loss = _loss_of(*inputs, *(part[piece] for part in labels))
                total = loss.sum()
            losses.append(loss.detach())
            if with_gradients:
                gradients.append(torch.autograd.grad(total, inputs))
        ctx.save_for_backward(*(torch.cat(parts) for parts in zip(*gradients, strict=True)))
        return torch.cat(losses)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weights: Tensor) -> tuple[Tensor | None, ...]:
        frames, prefixes, weight, bias = ctx.saved_tensors
        return (
            *(None, None, None),
            frames * weights[:, None, None],
            prefixes * weights[:, None, None],
            torch.einsum("n,nvj->vj", weights, weight),
            weights @ bias,
        )


def _loss_of(
    frames: Tensor,
    prefixes: Tensor,
    weight: Tensor,
    bias: Tensor,
    lengths: Tensor,
    targets: Tensor,
    target_lengths: Tensor,
) -> Tensor:
    """(n, T', J), (n, U + 1, J), and the output layer for each: (n, V, J), (n, V) → (n,)."""
    longest, most = int(lengths.max()), int(target_lengths.max())
    nodes = hidden(frames[:, :longest].unsqueeze(2), prefixes[:, : most + 1].unsqueeze(1))
    logits = torch.baddbmm(bias.unsqueeze(1), nodes.flatten(1, 2), weight.transpose(1, 2))
    return rnnt_loss(  # type: ignore[no-any-return]
        logits.view(len(frames), longest, most + 1, -1).float(),
        targets[:, :most].int().contiguous(),
        lengths.int(),
        target_lengths.int(),
        blank=BLANK,
        reduction="none",
    )


class _Emission(NamedTuple):
    """A phone of an alignment."""

    label: int
    frame: int
    prob: float


def _path(emissions: Sequence[_Emission], score: float) -> Path:
    return Path(
        tuple(emission.label for emission in emissions),
        score,
        tuple(emission.frame for emission in emissions),
        tuple(emission.prob for emission in emissions),
    )


class _Beam(NamedTuple):
    """Hypotheses of each utterance, no two of the same phones; where the score is −∞, none."""

    score: Tensor  # (N, W) in nats
    node: Tensor  # (N, W) of `_Prefixes`
    emission: Tensor  # (N, W) of `_Emissions`, the last one of the best alignment


class _BeamSearch:
    """Algorithm 1 of Graves (2012) for all hypotheses of all utterances at once, frame by frame.

    In a frame a hypothesis makes its blank, and it makes phones; the longer hypotheses do the same,
    up to `phones_per_frame` phones. Probabilities of different ways to the same phones are added.
    Only those longer ones are followed that, before their blank, are among the best of the frame.
    """

    def __init__(self, transducer: Transducer, search: SearchConfig, graph: Graph) -> None:
        device = transducer.joint.output.weight.device
        self.joint = transducer.joint
        self.phones_per_frame = transducer.config.phones_per_frame
        self.search = search
        self.fusion = _Fusion(graph, search, transducer.vocabulary_size, device)
        self.prefixes = _Prefixes(transducer, self.fusion)
        self.emissions = _Emissions()

    def paths(self, frames: Tensor, lengths: Tensor) -> list[list[Path]]:
        """(N, T', J), (N,) → N × n-best."""
        node = self.prefixes.roots(len(frames)).unsqueeze(1).repeat(1, self.search.beam)
        score = torch.full_like(node, -math.inf, dtype=torch.float64)
        score[:, 0] = 0.0
        beam = _Beam(score, node, torch.full_like(node, -1))
        for t in range(int(lengths.max())):
            live = (lengths > t).nonzero().squeeze(1)
            after = self._through_frame(t, frames[live, t], _Beam(*(part[live] for part in beam)))
            for part, values in zip(beam, after, strict=True):
                part[live] = values
        score = beam.score + self.fusion.ends[self.prefixes.row[beam.node]]
        score, chosen = score.topk(self.search.n_best, dim=1)
        emission = beam.emission.gather(1, chosen)
        return [
            [
                _path(self.emissions.until(last), total)
                for total, last in zip(*found, strict=True)
                if total > -math.inf
            ]
            for found in zip(score.tolist(), emission.tolist(), strict=True)
        ]

    def _through_frame(self, t: int, frames: Tensor, beam: _Beam) -> _Beam:
        """The beam behind frame `t`, which is `frames` (N, J), from the one before it."""
        behind = None
        for phones in range(self.phones_per_frame + 1):
            n, place = (beam.score > -math.inf).nonzero(as_tuple=True)
            if not len(n):
                break
            node = beam.node[n, place]
            log_probs = self.joint(frames[n], self.prefixes.projected[node])
            gains = log_probs.log_softmax(dim=1, dtype=torch.float64)
            gains += self.fusion.gains[self.prefixes.row[node]]
            scores = gains.new_full((*beam.score.shape, gains.shape[1]), -math.inf)
            scores[n, place] = beam.score[n, place].unsqueeze(1) + gains
            behind = _added(behind, beam._replace(score=scores[:, :, BLANK]))
            if phones < self.phones_per_frame:
                beam = self._longer(t, beam, scores, behind)
        assert behind is not None
        score, chosen = behind.score.topk(self.search.beam, dim=1)
        score = score.masked_fill(score < score[:, :1] - self.search.threshold, -math.inf)
        return _Beam(score, behind.node.gather(1, chosen), behind.emission.gather(1, chosen))

    def _longer(self, t: int, beam: _Beam, scores: Tensor, behind: _Beam) -> _Beam:
        """Hypotheses of `beam` with one more phone; `scores` (N, W, V) are with each label."""
        phones = scores.shape[2] - 1
        score, chosen = scores[:, :, 1:].flatten(1).topk(self.search.beam, dim=1)
        best = torch.cat([behind.score, score], 1).topk(self.search.beam, dim=1).values
        least = torch.maximum(best[:, -1:], best[:, :1] - self.search.threshold)
        score = score.masked_fill(score < least, -math.inf)
        n, new = (score > -math.inf).nonzero(as_tuple=True)
        place = chosen[n, new].div(phones, rounding_mode="floor")
        label = chosen[n, new] % phones + 1
        node = beam.node[n, place]
        gain = self.fusion.gains[self.prefixes.row[node], label]
        probs = (score[n, new] - beam.score[n, place] - gain).exp()
        longer = _Beam(score, torch.zeros_like(chosen), torch.zeros_like(chosen))
        longer.node[n, new] = self.prefixes.extend(node, label)
        longer.emission[n, new] = self.emissions.add(beam.emission[n, place], label, t, probs)
        return longer


def _added(behind: _Beam | None, beam: _Beam) -> _Beam:
    """Both in one, where hypotheses of the same phones are one with the sum of probabilities."""
    if behind is None:
        return beam
    same = beam.node.unsqueeze(2) == behind.node.unsqueeze(1)
    same &= (beam.score > -math.inf).unsqueeze(2) & (behind.score > -math.inf).unsqueeze(1)
    n, new, old = same.nonzero(as_tuple=True)
    score, emission = behind.score.clone(), behind.emission.clone()
    better = beam.score[n, new] > score[n, old]
    emission[n, old] = beam.emission[n, new].where(better, emission[n, old])
    score[n, old] = score[n, old].logaddexp(beam.score[n, new])
    others = beam.score.clone()
    others[n, new] = -math.inf
    return _Beam(
        torch.cat([score, others], 1),
        torch.cat([behind.node, beam.node], 1),
        torch.cat([emission, beam.emission], 1),
    )


class _Emissions:
    """Phones of alignments, numbered; each knows the one before it, −1 is none."""

    def __init__(self) -> None:
        self.previous: list[int] = []
        self.emission: list[_Emission] = []

    def add(self, previous: Tensor, labels: Tensor, frame: int, probs: Tensor) -> Tensor:
        """The numbers of new ones, (B,)."""
        begin = len(self.previous)
        self.previous += previous.tolist()
        pairs = zip(labels.tolist(), probs.tolist(), strict=True)
        self.emission += [_Emission(label, frame, prob) for label, prob in pairs]
        return torch.arange(begin, len(self.previous), device=previous.device)

    def until(self, last: int) -> list[_Emission]:
        """An alignment by its last phone."""
        found = []
        while last >= 0:
            found.append(self.emission[last])
            last = self.previous[last]
        return found[::-1]


class _Prefixes:
    """The phone strings that a search has met, as trees of numbered nodes, one for each utterance.

    Of each: its children by label, the state of the prediction network and what the joint network
    takes of it, and the row of `fusion`. Tensors have room for more.
    """

    def __init__(self, transducer: Transducer, fusion: "_Fusion") -> None:
        self.prediction, self.joint = transducer.prediction, transducer.joint
        self.fusion = fusion
        self.count = 0
        self.hidden = self.cell = self.prediction.start(0).hidden
        self.projected = self.joint.of_prefixes(self.hidden)
        self.row = torch.empty(0, dtype=torch.long, device=self.hidden.device)
        self.children = self.row.new_empty(0, transducer.vocabulary_size)

    def roots(self, count: int) -> Tensor:
        """New nodes for utterances without phones, (N,)."""
        return self._add([self.fusion.start] * count, self.prediction.start(count))

    def extend(self, parents: Tensor, labels: Tensor) -> Tensor:
        """The nodes of prefixes (B,) with one more label, which are made where there are none.

        The pairs must differ from each other.
        """
        nodes = self.children[parents, labels]
        new = (nodes < 0).nonzero().squeeze(1)
        parents, labels = parents[new], labels[new]
        state = State(self.hidden[parents], self.cell[parents])
        rows = self.fusion.after(self.row[parents], labels)
        nodes[new] = self._add(rows, self.prediction.step(labels, state))
        self.children[parents, labels] = nodes[new]
        return nodes

    def _add(self, rows: list[int], state: State) -> Tensor:
        begin, self.count = self.count, self.count + len(rows)
        values = {
            "row": torch.tensor(rows, dtype=torch.long, device=self.row.device),
            "children": -1,
            "hidden": state.hidden,
            "cell": state.cell,
            "projected": self.joint.of_prefixes(state.hidden),
        }
        for name, value in values.items():
            setattr(self, name, _with_room(getattr(self, name), self.count))
            getattr(self, name)[begin : self.count] = value
        return torch.arange(begin, self.count, device=self.row.device)


class _Fusion:
    """What labels gain in the states of a language model that came up: a row for each.

    `gains` (rows, V) have weight · log P + bonus, and the blank what it costs; `ends` (rows,) what
    the end of the sentence gains.
    """

    def __init__(
        self, graph: Graph, search: SearchConfig, vocabulary_size: int, device: torch.device
    ) -> None:
        self.graph = graph
        self.search = search
        self.gains = torch.empty(0, vocabulary_size, dtype=torch.float64, device=device)
        self.ends = self.gains.new_empty(0)
        self._targets: list[Any] = []  # (V,) states behind the labels of each row
        self._row_of: dict[int, int] = {}
        self.start = self._row(graph.start)

    def after(self, rows: Tensor, labels: Tensor) -> list[int]:
        """The rows behind a label in each of some rows, (B,)."""
        pairs = zip(rows.tolist(), labels.tolist(), strict=True)
        return [self._row(int(self._targets[row][label])) for row, label in pairs]

    def _row(self, state: int) -> int:
        if state in self._row_of:
            return self._row_of[state]
        row = self._row_of[state] = len(self._row_of)
        gain = np.zeros(self.gains.shape[1])
        target = np.zeros(self.gains.shape[1], dtype=np.int64)
        chain = [state]
        while chain[-1] != 0:
            chain.append(int(self.graph.lower[chain[-1]]))
        for s in reversed(chain):
            arcs = slice(self.graph.first_arc[s], self.graph.first_arc[s + 1])
            labels = self.graph.label[arcs]
            gain += self.graph.backoff[s]
            gain[labels], target[labels] = self.graph.log_prob[arcs], self.graph.target[arcs]
        gain = self.search.lm_weight * gain + self.search.bonus
        gain[BLANK] = -self.search.blank_penalty
        self.gains = _with_room(self.gains, row + 1)
        self.ends = _with_room(self.ends, row + 1)
        self.gains[row] = torch.from_numpy(gain)
        self.ends[row] = self.search.lm_weight * float(self.graph.end[state])
        self._targets.append(target)
        return row


def _with_room(tensor: Tensor, count: int) -> Tensor:
    """The same with a first dimension of `count` at least, doubled where it grows."""
    if count <= len(tensor):
        return tensor
    return torch.cat([tensor, tensor.new_empty(max(count, len(tensor)), *tensor.shape[1:])])


def require_learnable(lengths: Tensor, batch: Batch, vocabulary_size: int) -> None:
    """Raise `DataError` that names every utterance whose loss would mean nothing.

    Targets must be labels 1…V-1, of which torchaudio checks nothing, and there must be a frame.
    """
    real = length_mask(batch.target_lengths, batch.targets.shape[1])
    foreign = ((batch.targets <= BLANK) | (batch.targets >= vocabulary_size)) & real
    empty = lengths < 1
    if foreign.any():
        n, u = foreign.nonzero()[0].tolist()
        raise DataError(
            f"{batch.ids[n]}: label {int(batch.targets[n, u])} in the targets, expected "
            f"1…{vocabulary_size - 1} (0 is the blank); was the vocabulary changed?"
        )
    if empty.any():
        named = ", ".join(batch.ids[n] for n in empty.nonzero().flatten().tolist())
        raise DataError(f"too short for a single frame: {named}; leave them out")
