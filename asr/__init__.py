"""Speech phoneme recognition: waveform → features → stacked LSTM → phones → phone error rate.

    import asr

    asr.load().transcribe("my.wav")            # phones with times and confidences
    asr.load(words=True).transcribe("my.wav")  # words too
    asr.load(streaming=True).stream()          # phones while somebody speaks
    asr.align("my.wav", "hello world")         # the times of words and phones that are known
    asr.assess("my.wav", "hello world")        # how well each of their sounds was pronounced
    asr.score(references, hypotheses)          # phone error rate, counts and alignments

docs/python.md has examples. torch is imported by the first `load`, `align` or `assess`.

Shape letters, declared here once and used in every signature:

    N  utterances in a batch          D  width of an encoded frame
    S  samples of a waveform          U  phones of a target
    T  feature frames                 V  labels of a vocabulary, blank = 0 included
    T' encoded frames (subsampled)    F  width of a feature frame

Integer lengths `(N,)` travel beside every padded tensor.
"""

from __future__ import annotations

TYPE_CHECKING = False  # of typing, whose import takes longer than all else here
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from asr.assessment import Assessment
    from asr.records import Segment, Transcript
    from asr.scoring import Score
    from asr.transcriber import Recording, Transcriber
__version__ = "0.1.0"
__all__ = ["align", "assess", "load", "score"]


def load(
    checkpoint: str | Path | None = None,
    words: str | Path | bool | None = None,
    symbols: str | None = None,
    streaming: bool = False,
) -> Transcriber:
    """The recogniser of a checkpoint, or else the packaged model; `transcribe` is its method.

    With `words`, a file of `asr words` or True for the packaged one, transcripts have words.
    `symbols` is the alphabet of the phones: "arpabet", "ipa", "timit" or "xsampa"; None: that of
    the model. With `streaming` the packaged model is the one for `stream`, which finds phones while
    somebody speaks, at the cost of some more errors.
    Raises `DataError` where a file is absent, damaged, or of another kind.
    """
    from asr import transcriber

    return transcriber.load(checkpoint, words=words, symbols=symbols, stream=streaming)


def align(
    recording: Recording,
    text_or_phones: str | Path | Sequence[str],
    sample_rate: int | None = None,
    checkpoint: str | Path | None = None,
    channel: int | None = None,
    lexicon: str | Path | None = None,
    symbols: str | None = None,
) -> Transcript | tuple[Segment, ...]:
    """The times of what is said in a recording, by forced alignment.

    A text, or the path of a file of it, gives the words and phones of a `Transcript`; a list of
    phones gives these as segments. `recording` is a path, or an array (S,) with its `sample_rate`
    in Hz; `channel`, from 1, chooses one of several, which are mixed otherwise. Phones are those of
    the checkpoint's vocabulary (the packaged model: CMUdict's, in lower case, without stress), and
    words are those of the file `lexicon` or else CMUdict, or are pronounced by espeak-ng.
    With `symbols`, the phones of the list and the result are those of an alphabet, as in `load`.
    Raises `DataError` for an unknown phone, a text that cannot be read, or audio that is too short.
    """
    from asr import alignment

    return alignment.align(
        recording, text_or_phones, sample_rate, checkpoint, channel, lexicon, symbols
    )


def assess(
    recording: Recording,
    text: str | Path,
    sample_rate: int | None = None,
    checkpoint: str | Path | None = None,
    channel: int | None = None,
    lexicon: str | Path | None = None,
    symbols: str | None = None,
) -> Assessment:
    """How well each sound of an English text is pronounced in a recording, 0 to 100.

    Arguments are those of `align`, but for the `checkpoint`, which is the model that listens
    (criterion=ctc, phones of CMUdict). docs/assessment.md says what scores mean. Raises `DataError`
    as `align` does.
    """
    from asr import assessment

    return assessment.assess(recording, text, sample_rate, checkpoint, channel, lexicon, symbols)


def score(
    references: Mapping[str, Sequence[str]],
    hypotheses: Mapping[str, Sequence[str]],
    protocol: str = "strict",
    *,
    missing: str = "error",
    symbols: str | tuple[str | None, str | None] | None = None,
) -> Score:
    """The phone error rate of hypotheses: phones by utterance id on both sides.

    `protocol` says what is folded and deleted before the alignment (docs/scoring.md). `symbols` is
    the alphabet of both sides, or a pair for each, as in `load`; IPA may be whole words. The result
    has counts and rates in `total`, and the aligned phones. Raises `DataError` where an id is on
    one side only (a missing hypothesis counts as deletions with `missing="delete"`), phones are no
    list of strings, or a phone is not in the protocol's phone set.
    """
    from asr import scoring

    return scoring.score(references, hypotheses, protocol, missing=missing, symbols=symbols)
