"""Which frames a model sees: every knob of the features, its default and its limits."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from asr.knobs import Knobs, Limits, knob

if TYPE_CHECKING:
    from torch import Tensor

FAMILIES = ("kaldi", "librosa")
WINDOWS = ("povey", "hamming", "hanning", "rectangular", "blackman")
POSITIVE = Limits(more_than=0)
NOT_NEGATIVE = Limits(at_least=0)
NORMALIZATIONS = ("global", "speaker", "utterance", "active", "running", "sliding", "none")
# Knobs that have a meaning only where another has one of these values.
ONLY_WITH: dict[tuple[str, tuple[object, ...]], tuple[str, ...]] = {
    ("kind", ("mfcc",)): ("ceps", "lifter"),
    ("kind", ("fbank",)): ("log_floor",),
    ("deltas", (1, 2)): ("delta_window",),
    ("normalization", ("sliding",)): ("cmn_window",),
    ("normalization", ("active", "running")): ("active_db",),
    ("energy", (True,)): ("raw_energy", "energy_floor"),
    ("family", ("librosa",)): ("mel_scale", "pad_mode", "log_floor"),
    ("family", ("kaldi",)): (
        *("window", "preemphasis", "remove_dc", "lifter", "snip_edges", "dither", "dither_db"),
    ),
}

VTLN_LOW_HZ = 80.0  # above low_hz: Kaldi's --vtln-low of 100 with its --low-freq of 20
VTLN_HIGH_HZ = 500.0  # below the highest frequency: Kaldi's --vtln-high of -500


@dataclass(frozen=True)
class FeaturesConfig(Knobs, group="features"):
    """Which frames a model sees. F = (bins or ceps, + energy in fbank) × (1 + deltas) × context."""

    family: str = knob("kaldi", "scale, floor, framing and filters", one_of=FAMILIES)
    kind: str = knob("fbank", "log-mel filterbank or MFCC", one_of=("fbank", "mfcc"))
    bins: int = knob(40, "mel filters", at_least=4)
    ceps: int = knob(13, "cepstral coefficients; mfcc only")
    deltas: int = knob(2, "1: Δ, 2: Δ and ΔΔ", one_of=(0, 1, 2))
    delta_window: int = knob(2, "frames on each side, for the deltas", at_least=1)
    context: int = knob(0, "frames on each side, stacked with every frame", at_least=0)
    normalization: str = knob("global", "frames with mean 0 and variance 1", one_of=NORMALIZATIONS)
    cmn_window: int = knob(300, "frames; normalization=sliding only", at_least=2)
    active_db: float = knob(
        30.0,
        "speech is less than this below the loudest; normalization=active or running",
        **POSITIVE,
    )
    sample_rate: int = knob(16_000, "Hz", **POSITIVE)
    window_ms: float = knob(25.0, "length of a window", **POSITIVE)
    hop_ms: float = knob(10.0, "from one window to the next", **POSITIVE)
    low_hz: float = knob(20.0, "lowest frequency of the mel filters", at_least=0)
    high_hz: float = knob(0.0, "highest frequency; 0 or less: this much below half sample_rate")
    # Kaldi's family
    energy: bool = knob(True, "log energy: a frame's first value (fbank), or instead of C0 (mfcc)")
    raw_energy: bool = knob(True, "energy before pre-emphasis and window")
    energy_floor: float = knob(0.0, "least energy, of 16-bit samples", **NOT_NEGATIVE)
    window: str = knob("povey", "shape of the window; kaldi only", one_of=WINDOWS)
    preemphasis: float = knob(0.97, "coefficient; kaldi only", at_least=0, at_most=1)
    remove_dc: bool = knob(True, "subtract each window's mean; kaldi only")
    snip_edges: bool = knob(
        True, "whole windows only; false: frames to the end, mirrored at the edges; kaldi only"
    )
    dither: float = knob(0.0, "σ of added noise, in 16-bit steps; kaldi only", **NOT_NEGATIVE)
    dither_db: float = knob(
        0.0, "more noise, this many dB below the utterance; 0: none; kaldi only", **NOT_NEGATIVE
    )
    lifter: float = knob(22.0, "of the cepstra; 0: none; kaldi only", **NOT_NEGATIVE)
    # librosa's family
    mel_scale: str = knob("slaney", "librosa only", one_of=("slaney", "htk"))
    pad_mode: str = knob(
        "constant",
        "beyond the edges: zeros, or the mirrored signal; librosa only",
        one_of=("constant", "reflect"),
    )
    log_floor: float = knob(
        1e-10, "least mel power, a full-scale sine has about 10³; librosa fbank only", **POSITIVE
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.energy and self.family == "librosa":
            self.refuse("energy", "expected false with features.family=librosa, which has none")
        defaults = {field.name: field.default for field in fields(self)}
        for (other, values), keys in ONLY_WITH.items():
            for key in keys:
                if getattr(self, other) not in values and getattr(self, key) != defaults[key]:
                    is_other = f"features.{other} is {getattr(self, other)!r}"
                    self.refuse(key, f"but {is_other}, with which it has no meaning; leave it out")
        if self.normalization in ("active", "running") and self.kind != "fbank":
            self.refuse(
                "normalization", "expected another with features.kind=mfcc, which has no levels"
            )
        if self.kind == "mfcc" and not 1 <= self.ceps <= self.bins:
            self.refuse("ceps", f"expected 1…{self.bins} (features.bins)")
        if self.hop_ms > self.window_ms:
            self.refuse("hop_ms", f"expected at most {self.window_ms} (features.window_ms)")
        if self.hop_samples < 1 or self.window_samples < 2:
            self.refuse("hop_ms", "expected at least one sample, and two in features.window_ms")
        if not self.low_hz < self.highest_hz <= self.sample_rate / 2:
            raise ValueError(
                f"features.low_hz and high_hz are {self.low_hz} and {self.high_hz}, expected "
                f"low < high ≤ {self.sample_rate / 2} (half of features.sample_rate)"
            )

    @property
    def adapts(self) -> bool:
        """Whether the moments come from the speech to be recognised and not from training."""
        return self.normalization in ("speaker", "utterance", "active", "running", "sliding")

    @property
    def window_samples(self) -> int:
        return int(self.sample_rate * self.window_ms / 1000)

    @property
    def hop_samples(self) -> int:
        return int(self.sample_rate * self.hop_ms / 1000)

    @property
    def highest_hz(self) -> float:
        return self.high_hz if self.high_hz > 0 else self.sample_rate / 2 + self.high_hz

    @property
    def vtln_cutoffs(self) -> tuple[float, float]:
        """Hz between which a VTLN factor scales the frequency axis; Kaldi's, with its 20 Hz."""
        return self.low_hz + VTLN_LOW_HZ, self.highest_hz - VTLN_HIGH_HZ

    @property
    def frame_offset(self) -> int:
        """Samples that the edges add to an utterance: T = (S + offset) // hop."""
        window, hop = self.window_samples, self.hop_samples
        if self.family == "librosa":
            return hop + 2 * (window // 2) - window
        return hop - window if self.snip_edges else hop // 2

    @property
    def first_middle(self) -> float:
        """Samples to the middle of the first frame."""
        if self.family == "librosa":
            return 0.0  # its windows are centred
        return (self.window_samples if self.snip_edges else self.hop_samples) / 2

    def frame_count(self, samples: int) -> int:
        """T for S."""
        return max(0, (samples + self.frame_offset) // self.hop_samples)

    def frame_counts(self, lengths: "Tensor") -> "Tensor":
        """T for each S: (N,) → (N,)."""
        return ((lengths + self.frame_offset) // self.hop_samples).clamp_(min=0)

    @property
    def static_width(self) -> int:
        return self.bins + self.energy if self.kind == "fbank" else self.ceps

    @property
    def dynamic_width(self) -> int:
        """Values in a frame with Δ and ΔΔ, as it is normalised."""
        return self.static_width * (1 + self.deltas)

    @property
    def width(self) -> int:
        """F, the values in a frame with its context."""
        return self.dynamic_width * (1 + 2 * self.context)
