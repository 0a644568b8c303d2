"""Large files: two .trn or Kaldi text files read, encoded, aligned and counted block by block.

The same alignments as `asr.scoring.alignment`, compiled by numba. Memory does not grow with the
number of utterances, but for 8 bytes each that find duplicate ids. This file explains no bad
input: where anything is out of the ordinary it gives up, and the careful reader of
`asr.scoring.formats` takes over.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np

from asr.compiled import compiled
from asr.scoring.base import ErrorCounts

BLOCK = 1 << 21  # bytes of each file that are in memory at a time
TABLE = 1 << 14  # slots of the hash table of words; at most half are used
MOST_LABELS = 1000  # the matrix of confusions has as many rows and columns
DROPPED = -1


@dataclass
class Tally:
    """Counts over all utterances, and over groups of them, of one pair of files."""

    total: ErrorCounts = field(default_factory=ErrorCounts)
    other_err: int = 0  # errors that the other scorer counts
    speakers: dict[str, ErrorCounts] = field(default_factory=dict)
    lengths: dict[int, ErrorCounts] = field(default_factory=dict)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    confusions: dict[tuple[str | None, str | None], int] = field(default_factory=dict)
    ops: dict[str, str] = field(default_factory=dict)  # letters of CSDIO by id, where asked for


class IrregularError(Exception):
    """The files need the careful reader."""


class _Labels:
    """Phones by label, and the hash table in which compiled code finds the label of a word."""

    def __init__(self, fold: Callable[[str], str | None]) -> None:
        self.fold = fold
        self.phones: list[str] = []
        self.label: dict[str, int] = {}
        self.hashes = np.zeros(TABLE, dtype=np.uint64)
        self.values = np.zeros(TABLE, dtype=np.int32)
        self.words = 0

    def add(self, word: bytes) -> None:
        """Enter a word of the file; the slot is found as in `encode`."""
        try:
            text = word.decode()
            phone = self.fold(text)
        except ValueError as error:  # not UTF-8, or DataError: no phone of this protocol
            raise IrregularError from error
        if text.split() != [text] or text in "{}" or self.words > TABLE // 2:
            raise IrregularError
        label = DROPPED if phone is None else self.of(phone)
        hash_ = 14695981039346656037
        for byte in word:
            hash_ = ((hash_ ^ byte) * 1099511628211) % (1 << 64)
        slot = hash_ % TABLE
        while self.hashes[slot] != 0:
            slot = (slot + 1) % TABLE
        self.hashes[slot], self.values[slot] = hash_, label
        self.words += 1

    def of(self, phone: str) -> int:
        """The label of a phone, new or known."""
        if phone not in self.label:
            if len(self.phones) == MOST_LABELS:
                raise IrregularError
            self.label[phone] = len(self.phones)
            self.phones.append(phone)
        return self.label[phone]


def count_files(
    reference: str | Path,
    hypothesis: str | Path,
    format_name: str,
    fold: Callable[[str], str | None],
    merged: Sequence[frozenset[str]],
    optional: frozenset[str],
    scorer: str,
    length_bin: int,
    keep_ops: bool = False,
) -> Tally:
    """Count two files of the same utterances in the same order; `IrregularError` if care is needed.

    `fold` gives the phone scored for a label, None to delete it, or raises; `merged` are phones of
    which a run counts as one, in the reference and in the hypothesis ("*": all).
    """
    labels = _Labels(fold)
    for phone in sorted(optional):
        labels.of(phone)
    blocks = [
        _blocks(path, format_name == "trn", labels, merge)
        for path, merge in zip((reference, hypothesis), merged, strict=True)
    ]
    tally = Tally()
    seen = []
    speaker_of: dict[int, str] = {}
    confusions = np.zeros((1, 1), dtype=np.int64)
    pending: list[Any] = [None, None]
    while True:
        for side in (0, 1):
            if pending[side] is None or pending[side].size == 0:
                pending[side] = next(blocks[side], None)
        if pending[0] is None or pending[1] is None:
            break
        n = min(pending[0].size, pending[1].size)
        ref, hyp = pending[0].head(n), pending[1].head(n)
        if not np.array_equal(ref.ids, hyp.ids):
            raise IrregularError
        seen.append(ref.ids)
        confusions = _grown(confusions, len(labels.phones) + 1)
        counts, other_err, steps = _align_block(
            ref, hyp, labels, optional, scorer, confusions, keep_ops
        )
        tally.other_err += other_err
        tally.ops.update(zip(ref.id_names() if keep_ops else (), steps, strict=True))
        _add_groups(tally, counts, ref, speaker_of, length_bin)
        pending = [pending[0].tail(n), pending[1].tail(n)]
    if pending[0] is not None or pending[1] is not None:
        raise IrregularError
    ids = np.concatenate(seen) if seen else np.zeros(0, dtype=np.uint64)
    if len(np.unique(ids)) != len(ids):
        raise IrregularError
    tally.total = sum(tally.lengths.values(), ErrorCounts())
    phones: list[str | None] = [*labels.phones, None]
    size = len(phones)
    confusions = _grown(confusions, size)
    for i, j in zip(*np.nonzero(confusions), strict=True):
        tally.confusions[phones[i], phones[j]] = int(confusions[i, j])
    return tally


def align_many(
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    costs: tuple[int, int, int],
    optional: frozenset[int],
) -> list[str]:
    """Letters of CSDIO for every pair of label sequences, as `alignment.align` gives them."""
    sides = [_packed([pair[side] for pair in pairs]) for side in (0, 1)]
    (ref, ref_ends), (hyp, hyp_ends) = sides
    skippable = np.zeros(max((int(s[0].max(initial=0)) for s in sides), default=0) + 1, np.uint8)
    skippable[[label for label in optional if label < len(skippable)]] = 1
    ops = np.zeros(max(len(ref) + len(hyp), 1), dtype=np.uint8)
    op_ends = np.zeros(len(pairs) + 1, dtype=np.int64)
    counts = np.zeros((len(pairs), 4), dtype=np.int32)
    limits = np.full(len(pairs), -1, dtype=np.int32)
    nowhere = np.zeros((1, 1), dtype=np.int64)
    args = (*costs, skippable, limits, counts, nowhere, ops, op_ends)
    cheapest(ref, ref_ends, hyp, hyp_ends, *args)
    return _letters(ops, op_ends)


def _packed(sequences: Sequence[Sequence[int]]) -> tuple[Any, Any]:
    ends = np.zeros(len(sequences) + 1, dtype=np.int64)
    np.cumsum([len(sequence) for sequence in sequences], out=ends[1:])
    return np.fromiter(chain.from_iterable(sequences), np.int32, int(ends[-1])), ends


def _grown(confusions: Any, size: int) -> Any:
    """The matrix (size, size) with the same counts; its last row and column are "nothing"."""
    old = len(confusions) - 1
    if old + 1 == size:
        return confusions
    grown = np.zeros((size, size), dtype=np.int64)
    grown[:old, :old] = confusions[:old, :old]
    grown[:old, -1], grown[-1, :old] = confusions[:old, -1], confusions[-1, :old]
    return grown


def _align_block(
    ref: "_Block",
    hyp: "_Block",
    labels: _Labels,
    optional: frozenset[str],
    scorer: str,
    confusions: Any,
    keep_ops: bool,
) -> tuple[Any, int, list[str]]:
    """Counts (n, 4) of corr, sub, del, ins; errors of the other scorer; letters if kept."""
    n = ref.size
    counts = np.zeros((n, 4), dtype=np.int32)
    other = np.zeros((n, 4), dtype=np.int32)
    skippable = np.zeros(len(labels.phones) + 1, dtype=np.uint8)
    for phone in optional:
        skippable[labels.of(phone)] = 1
    sides = (ref.labels, ref.ends, hyp.labels, hyp.ends)
    nowhere = np.zeros((1, 1), dtype=np.int64)
    limits = np.full(n, -1, dtype=np.int32)
    ops = np.zeros(len(ref.labels) + len(hyp.labels) if keep_ops else 0, dtype=np.uint8)
    ends = np.zeros(n + 1, dtype=np.int64)
    no_ops = np.zeros(0, dtype=np.uint8)
    for name in ("levenshtein", "sclite"):
        kept = name == scorer
        found = counts if kept else other
        matrix = confusions if kept else nowhere
        letters = ops if kept else no_ops
        if name == "sclite" or optional:
            costs = (4, 3, 2) if name == "sclite" else (1, 1, 0)
            cheapest(*sides, *costs, skippable, limits, found, matrix, letters, ends)
        else:
            fewest(*sides, len(labels.phones), found, matrix, letters, ends)
            limits = 4 * found[:, 1] + 3 * (found[:, 2] + found[:, 3])
    return counts, int(other[:, 1:].sum()), _letters(ops, ends) if keep_ops else []


def _letters(ops: Any, ends: Any) -> list[str]:
    letters = ops.tobytes().decode("ascii")
    return [letters[low:high] for low, high in pairwise(ends.tolist())]


def _add_groups(
    tally: Tally, counts: Any, ref: "_Block", speaker_of: dict[int, str], length_bin: int
) -> None:
    ref_lengths = counts[:, :3].sum(axis=1)
    errors = counts[:, 1:].sum(axis=1)
    sizes, numbers = np.unique(
        ref_lengths.astype(np.int64) << 32 | errors.astype(np.int64), return_counts=True
    )
    for size, number in zip(sizes.tolist(), numbers.tolist(), strict=True):
        tally.sizes[size >> 32, size & 0xFFFFFFFF] += number
    _sum_by(tally.lengths, ref_lengths // length_bin * length_bin, counts, int)
    heads, first = np.unique(ref.speakers, return_index=True)
    for head, index in zip(heads.tolist(), first.tolist(), strict=True):
        if head and head not in speaker_of:
            speaker_of[head] = ref.speaker_name(index)
    by_head: dict[int, ErrorCounts] = {}
    _sum_by(by_head, ref.speakers, counts, int)
    for head, found in by_head.items():
        if head:
            name = speaker_of[head]
            tally.speakers[name] = tally.speakers.get(name, ErrorCounts()) + found


def _sum_by(sums: dict[int, ErrorCounts], keys: Any, counts: Any, as_key: type[int]) -> None:
    names, index = np.unique(keys, return_inverse=True)
    columns = [np.bincount(index, counts[:, c], len(names)).astype(np.int64) for c in range(4)]
    numbers = np.bincount(index, minlength=len(names))
    for k, name in enumerate(names):
        corr, sub, dele, ins = (int(column[k]) for column in columns)
        found = ErrorCounts(int(numbers[k]), corr + sub + dele, corr, sub, dele, ins)
        sums[as_key(name)] = sums.get(as_key(name), ErrorCounts()) + found


@dataclass
class _Block:
    """Encoded utterances: labels one after the other and where each utterance ends.

    `ids` and `speakers` are hashes; a speaker is the id before its first "-" or "_", 0 if it has
    none. `bounds` say where in `text` each id begins and ends, and the length of its speaker.
    """

    labels: Any  # (sum of lengths,) int32
    ends: Any  # (n + 1,) int64, first 0
    ids: Any  # (n,) uint64
    speakers: Any  # (n,) uint64
    bounds: Any  # (n, 3) int64
    text: bytes

    @property
    def size(self) -> int:
        return len(self.ids)

    def head(self, n: int) -> "_Block":
        return self._part(0, n)

    def tail(self, n: int) -> "_Block":
        return self._part(n, self.size)

    def _part(self, low: int, high: int) -> "_Block":
        ends = self.ends[low : high + 1]
        return _Block(
            self.labels[ends[0] : ends[-1]],
            ends - ends[0],
            self.ids[low:high],
            self.speakers[low:high],
            self.bounds[low:high],
            self.text,
        )

    def speaker_name(self, index: int) -> str:
        start, _, length = self.bounds[index]
        return self.text[start : start + length].decode(errors="replace")

    def id_names(self) -> list[str]:
        return [self.text[a:b].decode(errors="replace") for a, b, _ in self.bounds.tolist()]


def _blocks(
    path: str | Path, is_trn: bool, labels: _Labels, merge: frozenset[str]
) -> Iterator[_Block]:
    with open(path, "rb") as file:
        for text in _whole_lines(file):
            data = np.frombuffer(text, dtype=np.uint8)
            lines = text.count(b"\n") + 1
            block = _Block(
                np.empty(len(text) // 2 + 1, dtype=np.int32),
                np.zeros(lines + 1, dtype=np.int64),
                np.zeros(lines, dtype=np.uint64),
                np.zeros(lines, dtype=np.uint64),
                np.zeros((lines, 3), dtype=np.int64),
                text,
            )
            state = np.zeros(4, dtype=np.int64)  # next byte; utterances; unknown word: start, end
            while True:
                runs = np.zeros(len(labels.phones) + 1, dtype=np.uint8)
                for phone in labels.phones if "*" in merge else merge:
                    runs[labels.of(phone)] = 1
                status = encode(
                    data,
                    state,
                    is_trn,
                    labels.hashes,
                    labels.values,
                    runs,
                    block.labels,
                    block.ends,
                    block.ids,
                    block.speakers,
                    block.bounds,
                )
                if status == 0:
                    break
                if status == 2:
                    raise IrregularError
                labels.add(text[state[2] : state[3]])
            n = int(state[1])
            yield block.head(n)


def _whole_lines(file: IO[bytes]) -> Iterator[bytes]:
    rest = b""
    first = True
    while block := file.read(BLOCK):
        if first:
            block, first = block.removeprefix(b"\xef\xbb\xbf"), False
        cut = block.rfind(b"\n") + 1
        if cut == 0:
            rest += block
            continue
        yield rest + block[:cut]
        rest = block[cut:]
    if rest:
        yield rest


FNV_START = np.uint64(14695981039346656037)
FNV_PRIME = np.uint64(1099511628211)
ZERO, ONE = np.uint64(0), np.uint64(1)
SPACE, TAB, RETURN, NEWLINE = 32, 9, 13, 10
OPEN, CLOSE, SEMICOLON, DASH, UNDERSCORE = 40, 41, 59, 45, 95
FAR = 1 << 28
FORGIVEN = 79  # the letter O
DONE, UNKNOWN_WORD, NEEDS_CARE = 0, 1, 2


@compiled()
def _is_space(byte: int) -> bool:
    return byte in (SPACE, TAB, RETURN)


@compiled()
def _reverse(letters: Any) -> None:
    for k in range(len(letters) // 2):
        letters[k], letters[-1 - k] = letters[-1 - k], letters[k]


@compiled()
def encode(
    data: Any,
    state: Any,
    is_trn: bool,
    hashes: Any,
    values: Any,
    runs: Any,
    labels: Any,
    ends: Any,
    ids: Any,
    speakers: Any,
    bounds: Any,
) -> int:
    """Encode lines of `data` (bytes) until all are done, or a word is unknown or a line odd.

    `state` holds the next line's first byte and the utterances so far, and gets the bytes of an
    unknown word. `runs` marks labels of which a run counts as one. The other arrays are filled:
    see `_Block`.
    """
    size = len(data)
    start, n = state[0], state[1]
    while start < size:
        stop = start
        while stop < size and data[stop] != NEWLINE:
            stop += 1
        first, last = start, stop  # the line without space around it
        while first < last and _is_space(data[first]):
            first += 1
        while first < last and _is_space(data[last - 1]):
            last -= 1
        if first == last or (
            last - start > 1 and data[start] == SEMICOLON and data[start + 1] == SEMICOLON
        ):
            start = stop + 1
            continue
        if is_trn:
            if data[last - 1] != CLOSE:
                return NEEDS_CARE
            id_last = last - 1
            id_first = id_last
            while id_first > first and data[id_first - 1] != OPEN:
                id_first -= 1
            if id_first == first or data[id_first - 1] != OPEN:
                return NEEDS_CARE
            word, words_end = first, id_first - 1
        else:
            if first != start:
                return NEEDS_CARE
            id_first = id_last = first
            while id_last < last and not _is_space(data[id_last]):
                id_last += 1
            word, words_end = id_last, last
        if id_first == id_last:
            return NEEDS_CARE
        hash_ = FNV_START
        speaker = ZERO
        separator = -1
        for k in range(id_first, id_last):
            byte = data[k]
            if _is_space(byte) or byte in (OPEN, CLOSE):
                return NEEDS_CARE
            is_first = separator < 0 or (byte == DASH and data[separator] == UNDERSCORE)
            if byte in (DASH, UNDERSCORE) and is_first and k > id_first:
                separator, speaker = k, hash_
            hash_ = (hash_ ^ np.uint64(byte)) * FNV_PRIME
        ids[n] = hash_
        speakers[n] = speaker
        bounds[n, 0] = id_first
        bounds[n, 1] = id_last
        bounds[n, 2] = separator - id_first
        end = ends[n]
        previous = -1
        while True:
            while word < words_end and _is_space(data[word]):
                word += 1
            if word >= words_end:
                break
            after = word
            hash_ = FNV_START
            while after < words_end and not _is_space(data[after]):
                hash_ = (hash_ ^ np.uint64(data[after])) * FNV_PRIME
                after += 1
            slot = np.int64(hash_ % np.uint64(len(hashes)))
            while hashes[slot] != hash_ and hashes[slot] != ZERO:
                slot = (slot + 1) % len(hashes)
            if hashes[slot] == ZERO:
                state[0], state[1], state[2], state[3] = start, n, word, after
                return UNKNOWN_WORD
            label = values[slot]
            if label >= 0 and not (label == previous and runs[label]):
                labels[end] = label
                end += 1
                previous = label
            word = after
        n += 1
        ends[n] = end
        start = stop + 1
    state[0], state[1] = start, n
    return DONE


@compiled()
def cheapest(
    ref_labels: Any,
    ref_ends: Any,
    hyp_labels: Any,
    hyp_ends: Any,
    substitution: int,
    gap: int,
    skippable_gap: int,
    skippable: Any,
    limits: Any,
    counts: Any,
    confusions: Any,
    ops: Any,
    op_ends: Any,
) -> None:
    """Align every pair as `alignment._cheapest` does; fill counts (n, 4): corr, sub, del, ins.

    `limits` (n,) are costs that the cheapest alignments are known not to exceed, or -1.
    `confusions` (V + 1, V + 1), its last row and column for nothing, is added to unless it is
    (1, 1). `ops` gets letters of CSDIO, and `op_ends` (n + 1,) where they end, unless it is empty.
    """
    counting, keeping = confusions.shape[0] > 1, len(ops) > 0
    nothing = confusions.shape[0] - 1
    row = np.empty(1, dtype=np.int32)
    choices = np.empty(1, dtype=np.uint8)
    for k in range(len(ref_ends) - 1):
        ref = ref_labels[ref_ends[k] : ref_ends[k + 1]]
        hyp = hyp_labels[hyp_ends[k] : hyp_ends[k + 1]]
        n, m = len(ref), len(hyp)
        width = m + 1
        if len(row) < width:
            row = np.empty(2 * width, dtype=np.int32)
        if len(choices) < (n + 1) * width:
            choices = np.empty(2 * (n + 1) * width, dtype=np.uint8)
        # A path that reaches phone i + d of the hypothesis at phone i of the reference, and ends
        # at m - n, has at least |d| + |m - n - d| gaps: beyond `limit` none can be the cheapest.
        lowest, highest = -n, m
        if limits[k] >= 0:
            slack = (limits[k] // gap - abs(m - n)) // 2
            lowest, highest = min(0, m - n) - slack, max(0, m - n) + slack
        # A cost times four, plus its rank among equal costs: pair 0, insertion 1, deletion 2.
        for j in range(width):
            row[j] = 4 * gap * j if j <= highest else FAR
            choices[j] = 1
        for i in range(n):
            phone = ref[i]
            drop = 4 * (skippable_gap if skippable[phone] else gap) + 2
            base = (i + 1) * width
            first, last = max(0, i + lowest), min(m, i + 1 + highest)
            diagonal = row[first]
            left = FAR
            if first == 0:
                left = (row[0] + drop) & ~3
                row[0] = left
                choices[base] = 2
            for j in range(first, last):
                above = row[j + 1]
                best = diagonal + (0 if hyp[j] == phone else 4 * substitution)
                best = min(best, left + 4 * gap + 1)
                best = min(best, above + drop)
                choices[base + j + 1] = best & 3
                left = best & ~3
                row[j + 1] = left
                diagonal = above
        corr = sub = dele = ins = 0
        i, j = n, m
        steps = 0
        while i > 0 or j > 0:
            choice = choices[i * width + j]
            if choice == 0:
                i -= 1
                j -= 1
                right = ref[i] == hyp[j]
                letter = 67 if right else 83
                corr += right
                sub += not right
                said, heard = ref[i], hyp[j]
            elif choice == 1:
                j -= 1
                letter = 73
                ins += 1
                said, heard = nothing, hyp[j]
            else:
                i -= 1
                forgiven = skippable[ref[i]] != 0
                letter = FORGIVEN if forgiven else 68
                corr += forgiven
                dele += not forgiven
                said, heard = ref[i], nothing
            if counting and letter != FORGIVEN:
                confusions[said, heard] += 1
            if keeping:
                ops[op_ends[k] + steps] = letter
                steps += 1
        if keeping:
            op_ends[k + 1] = op_ends[k] + steps
            _reverse(ops[op_ends[k] : op_ends[k + 1]])
        counts[k, 0], counts[k, 1], counts[k, 2], counts[k, 3] = corr, sub, dele, ins


@compiled()
def fewest(
    ref_labels: Any,
    ref_ends: Any,
    hyp_labels: Any,
    hyp_ends: Any,
    vocabulary: int,
    counts: Any,
    confusions: Any,
    ops: Any,
    op_ends: Any,
) -> None:
    """Minimum edit distance with the alignment of rapidfuzz; arrays as in `cheapest`.

    Bit-parallel (Hyyrö 2003): bit i of `up[j]` and `down[j]` says that the distance of the first
    j phones of the hypothesis grows or shrinks by one from i to i + 1 phones of the reference.
    """
    counting, keeping = confusions.shape[0] > 1, len(ops) > 0
    nothing = confusions.shape[0] - 1
    places = np.zeros((vocabulary + 1, 1), dtype=np.uint64)
    up = np.empty((1, 1), dtype=np.uint64)
    down = np.empty((1, 1), dtype=np.uint64)
    for k in range(len(ref_ends) - 1):
        low, high = ref_ends[k], ref_ends[k + 1]
        hyp_low, hyp_high = hyp_ends[k], hyp_ends[k + 1]
        corr = sub = dele = ins = 0
        while low < high and hyp_low < hyp_high and ref_labels[low] == hyp_labels[hyp_low]:
            corr += 1
            if counting:
                confusions[ref_labels[low], ref_labels[low]] += 1
            low += 1
            hyp_low += 1
        before = corr
        while low < high and hyp_low < hyp_high:
            if ref_labels[high - 1] != hyp_labels[hyp_high - 1]:
                break
            corr += 1
            high -= 1
            hyp_high -= 1
            if counting:
                confusions[ref_labels[high], ref_labels[high]] += 1
        behind = corr - before
        ref = ref_labels[low:high]
        hyp = hyp_labels[hyp_low:hyp_high]
        n, m = len(ref), len(hyp)
        words = (n + 63) // 64
        if places.shape[1] < words:
            places = np.zeros((vocabulary + 1, words), dtype=np.uint64)
        if up.shape[0] < m + 1 or up.shape[1] < words:
            up = np.empty((2 * (m + 1), max(words, up.shape[1])), dtype=np.uint64)
            down = np.empty_like(up)
        for i in range(n):
            places[ref[i], i >> 6] |= ONE << np.uint64(i & 63)
        for w in range(words):
            up[0, w] = ~ZERO
            down[0, w] = ZERO
        for j in range(m):
            grows, shrinks = ONE, ZERO  # carried from word to word: the row below has one more
            for w in range(words):
                vp, vn = up[j, w], down[j, w]
                x = places[hyp[j], w] | shrinks
                d0 = (((x & vp) + vp) ^ vp) | x | vn
                hp = vn | ~(d0 | vp)
                hn = d0 & vp
                next_grows, next_shrinks = hp >> np.uint64(63), hn >> np.uint64(63)
                hp = (hp << ONE) | grows
                hn = (hn << ONE) | shrinks
                up[j + 1, w] = hn | ~(d0 | hp)
                down[j + 1, w] = hp & d0
                grows, shrinks = next_grows, next_shrinks
        for i in range(n):
            places[ref[i], i >> 6] = ZERO
        i, j = n, m
        steps = 0
        while i > 0 or j > 0:
            word, bit = (i - 1) >> 6, np.uint64((i - 1) & 63)
            if j == 0 or (i > 0 and (up[j, word] >> bit) & ONE):
                i -= 1
                dele += 1
                letter = 68
                said, heard = ref[i], nothing
            elif i == 0 or (j > 1 and (down[j - 1, word] >> bit) & ONE):
                j -= 1
                ins += 1
                letter = 73
                said, heard = nothing, hyp[j]
            else:
                i -= 1
                j -= 1
                right = ref[i] == hyp[j]
                corr += right
                sub += not right
                letter = 67 if right else 83
                said, heard = ref[i], hyp[j]
            if counting:
                confusions[said, heard] += 1
            if keeping:
                ops[op_ends[k] + before + steps] = letter
                steps += 1
        if keeping:
            first = op_ends[k]
            ops[first : first + before] = 67
            _reverse(ops[first + before : first + before + steps])
            op_ends[k + 1] = first + before + steps + behind
            ops[first + before + steps : op_ends[k + 1]] = 67
        counts[k, 0], counts[k, 1], counts[k, 2], counts[k, 3] = corr, sub, dele, ins
