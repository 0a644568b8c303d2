"""Greedy and beam search of a transducer (Graves 2012), for all utterances of a batch at once."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from asr.criteria.transducer.network import BLANK, Joint, Prediction
from asr.lstm.cell import State
from asr.search import SearchConfig
from asr.search.graph import Graph, fill_row
from asr.search.paths import Path


class _Emission(NamedTuple):
    """A phone of an alignment."""

    label: int
    frame: int
    prob: float


def _path(emissions: Sequence[_Emission], score: float) -> Path:
    labels, frames, probs = tuple(zip(*emissions, strict=True)) or ((), (), ())
    return Path(labels, score, frames, probs)


def greedy(
    prediction: Prediction,
    joint: Joint,
    frames: Tensor,
    lengths: Tensor,
    phones_per_frame: int,
    blank_penalty: float,
) -> list[Path]:
    """The likeliest step from every node: (N, T', J), (N,) → N."""
    rows = torch.arange(len(frames), device=frames.device)
    hidden, cell = prediction.start(len(frames))
    assert cell is not None
    prefixes = joint.of_prefixes(hidden)
    frame, here = torch.zeros_like(lengths), torch.zeros_like(lengths)  # here: phones in the frame
    scores = torch.zeros(len(frames), dtype=torch.float64, device=frames.device)
    emitted: list[list[_Emission]] = [[] for _ in rows]
    while (running := frame < lengths).any():
        seen = frames[rows, frame.clamp(max=frames.shape[1] - 1)]
        log_probs = joint(seen, prefixes).log_softmax(dim=1, dtype=torch.float64)
        log_probs[:, BLANK] -= blank_penalty
        full = here == phones_per_frame
        log_probs[:, 1:].masked_fill_(full.unsqueeze(1), -math.inf)
        gains, labels = log_probs.max(dim=1)
        scores += gains.where(running, 0.0)
        grown = (running & (labels != BLANK)).nonzero().squeeze(1)
        if len(grown):
            new = torch.stack([grown, labels[grown], frame[grown]], 1).tolist()
            for (n, label, t), gain in zip(new, gains[grown].tolist(), strict=True):
                emitted[n].append(_Emission(label, t, math.exp(gain)))
            after = prediction.step(labels[grown], State(hidden[grown], cell[grown]))
            assert after.cell is not None
            hidden[grown], cell[grown] = after.hidden, after.cell
            prefixes[grown] = joint.of_prefixes(after.hidden)
        stays = labels == BLANK
        frame, here = frame + stays, (here + 1).where(~stays, 0)
    return [_path(phones, score) for phones, score in zip(emitted, scores.tolist(), strict=True)]


class _Beam(NamedTuple):
    """Hypotheses of each utterance, no two of the same phones; a score of −∞ marks none."""

    score: Tensor  # (N, W) in nats
    node: Tensor  # (N, W) of `_Prefixes`
    emission: Tensor  # (N, W) of `BeamSearch.emissions`, the last of the best alignment


class BeamSearch:
    """Algorithm 1 of Graves (2012) for all hypotheses of all utterances at once, frame by frame.

    In a frame each hypothesis emits its blank, and also phones; the longer hypotheses do the same,
    up to `phones_per_frame` phones. Probabilities of different paths to the same phones are added.
    A longer hypothesis is kept only if, before its blank, it is among the best of the frame.
    """

    def __init__(
        self,
        prediction: Prediction,
        joint: Joint,
        phones_per_frame: int,
        search: SearchConfig,
        graph: Graph,
    ) -> None:
        self.joint = joint
        self.phones_per_frame = phones_per_frame
        self.search = search
        self.fusion = _Fusion(graph, search, joint.output)
        self.prefixes = _Prefixes(prediction, joint, self.fusion)
        # numbered; each with the number of the one before it in its alignment, or −1
        self.emissions: list[tuple[int, _Emission]] = []

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
                _path(self._alignment(last), total)
                for total, last in zip(*n_best, strict=True)
                if total > -math.inf
            ]
            for n_best in zip(score.tolist(), emission.tolist(), strict=True)
        ]

    def _through_frame(self, t: int, frames: Tensor, beam: _Beam) -> _Beam:
        """The beam after frame `t`, `frames` (N, J), from the one before it."""
        closed = None
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
            closed = _added(closed, beam._replace(score=scores[:, :, BLANK]))
            if phones < self.phones_per_frame:
                beam = self._longer(t, beam, scores, closed)
        assert closed is not None
        score, chosen = closed.score.topk(self.search.beam, dim=1)
        score = score.masked_fill(score < score[:, :1] - self.search.threshold, -math.inf)
        return _Beam(score, closed.node.gather(1, chosen), closed.emission.gather(1, chosen))

    def _longer(self, t: int, beam: _Beam, scores: Tensor, closed: _Beam) -> _Beam:
        """Hypotheses of `beam` with one more phone; `scores` (N, W, V) are those of each label."""
        phones = scores.shape[2] - 1
        score, chosen = scores[:, :, 1:].flatten(1).topk(self.search.beam, dim=1)
        best = torch.cat([closed.score, score], 1).topk(self.search.beam, dim=1).values
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
        first, before = len(self.emissions), beam.emission[n, place]
        for previous, *phone in zip(before.tolist(), label.tolist(), probs.tolist(), strict=True):
            self.emissions.append((previous, _Emission(phone[0], t, phone[1])))
        longer.emission[n, new] = torch.arange(first, len(self.emissions), device=n.device)
        return longer

    def _alignment(self, last: int) -> list[_Emission]:
        """The alignment that ends with emission number `last`."""
        alignment = []
        while last >= 0:
            last, emission = self.emissions[last]
            alignment.append(emission)
        return alignment[::-1]


def _added(closed: _Beam | None, beam: _Beam) -> _Beam:
    """Both beams in one; hypotheses of the same phones are merged, their probabilities added."""
    if closed is None:
        return beam
    same = beam.node.unsqueeze(2) == closed.node.unsqueeze(1)
    same &= (beam.score > -math.inf).unsqueeze(2) & (closed.score > -math.inf).unsqueeze(1)
    n, new, old = same.nonzero(as_tuple=True)
    score, emission = closed.score.clone(), closed.emission.clone()
    better = beam.score[n, new] > score[n, old]
    emission[n, old] = beam.emission[n, new].where(better, emission[n, old])
    score[n, old] = score[n, old].logaddexp(beam.score[n, new])
    others = beam.score.clone()
    others[n, new] = -math.inf
    return _Beam(
        torch.cat([score, others], 1),
        torch.cat([closed.node, beam.node], 1),
        torch.cat([emission, beam.emission], 1),
    )


class _Prefixes:
    """The phone strings of a search as trees of numbered nodes, one tree for each utterance.

    Each node has its children by label, the state of the prediction network, its projection in the
    joint network, and its row of `fusion`. Tensors are allocated with room for more nodes.
    """

    def __init__(self, prediction: Prediction, joint: Joint, fusion: "_Fusion") -> None:
        self.prediction, self.joint, self.fusion = prediction, joint, fusion
        self.count = 0
        self.hidden = self.cell = self.prediction.start(0).hidden
        self.projected = self.joint.of_prefixes(self.hidden)
        self.row = torch.empty(0, dtype=torch.long, device=self.hidden.device)
        self.children = self.row.new_empty(0, joint.output.out_features)

    def roots(self, count: int) -> Tensor:
        """New nodes without phones, one for each utterance, (N,)."""
        return self._add([self.fusion.start] * count, self.prediction.start(count))

    def extend(self, parents: Tensor, labels: Tensor) -> Tensor:
        """The nodes of prefixes (B,) with one more label (B,), new ones where needed.

        No two pairs may be equal.
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
    """Scores that a language model adds to labels: a row for each of its states met so far.

    `gains` (rows, V) are weight · log P + bonus, for the blank minus its penalty; `ends` (rows,)
    the same for the end of the sentence.
    """

    def __init__(self, graph: Graph, search: SearchConfig, output: nn.Linear) -> None:
        self.graph = graph
        self.search = search
        self.gains = output.weight.new_empty(0, output.out_features, dtype=torch.float64)
        self.ends = self.gains.new_empty(0)
        self._targets: list[Any] = []  # of each row, the states after each label, (V,)
        self._row_of: dict[int, int] = {}
        self.start = self._row(graph.start)

    def after(self, rows: Tensor, labels: Tensor) -> list[int]:
        """The row after a label in each row: (B,), (B,) → B."""
        pairs = zip(rows.tolist(), labels.tolist(), strict=True)
        return [self._row(int(self._targets[row][label])) for row, label in pairs]

    def _row(self, state: int) -> int:
        if state in self._row_of:
            return self._row_of[state]
        row = self._row_of[state] = len(self._row_of)
        gain = np.zeros(self.gains.shape[1])
        target = np.zeros(self.gains.shape[1], dtype=np.int32)
        fill_row(self.graph, state, gain, target)
        gain = self.search.lm_weight * gain + self.search.bonus
        gain[BLANK] = -self.search.blank_penalty
        self.gains = _with_room(self.gains, row + 1)
        self.ends = _with_room(self.ends, row + 1)
        self.gains[row] = torch.from_numpy(gain)
        self.ends[row] = self.search.lm_weight * float(self.graph.states["end"][state])
        self._targets.append(target)
        return row


def _with_room(tensor: Tensor, count: int) -> Tensor:
    """The tensor with a first dimension of at least `count`, doubled if it must grow."""
    if count <= len(tensor):
        return tensor
    return torch.cat([tensor, tensor.new_empty(max(count, len(tensor)), *tensor.shape[1:])])
