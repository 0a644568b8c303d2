"""Which frames a model sees: every knob of the features, its default and its limits."""

from dataclasses import dataclass, fields

from torch import Tensor

FAMILIES = ("kaldi", "librosa")
WINDOWS = ("povey", "hamming", "hanning", "rectangular", "blackman")
NORMALIZATIONS = ("global", "speaker", "utterance", "active", "sliding", "none")
# A knob that has a meaning only where another has one of these values.
ONLY_WITH: tuple[tuple[str, str, tuple[object, ...]], ...] = (
    ("ceps", "kind", ("mfcc",)),
    ("delta_window", "deltas", (1, 2)),
    ("cmn_window", "normalization", ("sliding",)),
    ("active_db", "normalization", ("active",)),
    ("window", "family", ("kaldi",)),
    ("preemphasis", "family", ("kaldi",)),
    ("remove_dc", "family", ("kaldi",)),
    ("raw_energy", "energy", (True,)),
    ("energy_floor", "energy", (True,)),
    ("lifter", "family", ("kaldi",)),
    ("lifter", "kind", ("mfcc",)),
    ("snip_edges", "family", ("kaldi",)),
    ("dither", "family", ("kaldi",)),
    ("dither_db", "family", ("kaldi",)),
    ("mel_scale", "family", ("librosa",)),
    ("pad_mode", "family", ("librosa",)),
    ("log_floor", "family", ("librosa",)),
    ("log_floor", "kind", ("fbank",)),
)

VTLN_LOW_HZ = 80.0  # above low_hz: Kaldi's --vtln-low of 100 with its --low-freq of 20
VTLN_HIGH_HZ = 500.0  # below the highest frequency: Kaldi's --vtln-high of -500


@dataclass(frozen=True)
class FeaturesConfig:
    """Which frames a model sees. F = (bins or ceps, + energy in fbank) × (1 + deltas) × context."""

    family: str = "kaldi"  # or "librosa": scale, floor, framing and filters are another's
    kind: str = "fbank"  # log-mel; or "mfcc"
    bins: int = 40  # mel filters
    ceps: int = 13  # cepstral coefficients, MFCC only
    deltas: int = 2  # 1: Δ, 2: Δ and ΔΔ
    delta_window: int = 2  # frames on each side
    context: int = 0  # frames on each side that are stacked with every frame
    normalization: str = "global"  # or "speaker", "utterance", "active", "sliding", "none"
    cmn_window: int = 300  # frames, sliding only
    active_db: float = 30.0  # active only: frames this far below the loudest ones count as speech
    sample_rate: int = 16_000
    window_ms: float = 25.0
    hop_ms: float = 10.0
    low_hz: float = 20.0
    high_hz: float = 0.0  # 0 and less: so far from half the sample rate
    # Kaldi's family
    energy: bool = True  # log energy: a frame's first value (fbank), or in place of C0 (MFCC)
    raw_energy: bool = True  # before pre-emphasis and window
    energy_floor: float = 0.0  # of the energy of 16-bit samples; its logarithm is not below this
    window: str = "povey"
    preemphasis: float = 0.97
    remove_dc: bool = True  # each window's own mean
    snip_edges: bool = True  # whole windows only; false: frames to the end, mirrored at the edges
    dither: float = 0.0  # standard deviation of the noise that is added, in 16-bit steps
    dither_db: float = 0.0  # more of it, so many dB below the utterance; 0: none
    lifter: float = 22.0  # of the cepstra; 0: none
    # librosa's family
    mel_scale: str = "slaney"  # or "htk"
    pad_mode: str = "constant"  # what lies beyond the edges: zeros; "reflect": the mirrored signal
    log_floor: float = 1e-10  # of mel power, log-mel only: a full-scale sine has about 10³

    def __post_init__(self) -> None:
        for key, expected in (
            ("family", FAMILIES),
            ("kind", ("fbank", "mfcc")),
            ("normalization", NORMALIZATIONS),
            ("deltas", (0, 1, 2)),
            ("window", WINDOWS),
            ("mel_scale", ("slaney", "htk")),
            ("pad_mode", ("constant", "reflect")),
        ):
            if getattr(self, key) not in expected:
                self._refuse(key, " or ".join(", ".join(map(str, expected)).rsplit(", ", 1)))
        if self.energy and self.family == "librosa":
            self._refuse("energy", "false with features.family=librosa, which has none")
        for key, other, values in ONLY_WITH:
            default = next(field.default for field in fields(self) if field.name == key)
            if getattr(self, other) not in values and getattr(self, key) != default:
                raise ValueError(
                    f"features.{key} is {getattr(self, key)!r}, but features.{other} is "
                    f"{getattr(self, other)!r}, with which it has no meaning; leave it out"
                )
        for key, least in (("bins", 4), ("delta_window", 1), ("context", 0), ("cmn_window", 2)):
            if not getattr(self, key) >= least:
                self._refuse(key, f"at least {least}")
        for key in ("energy_floor", "dither", "dither_db", "lifter"):
            if not 0 <= getattr(self, key) < float("inf"):
                self._refuse(key, "at least 0")
        for key in ("sample_rate", "log_floor", "active_db"):
            if not 0 < getattr(self, key) < float("inf"):
                self._refuse(key, "more than 0")
        if self.normalization == "active" and self.kind != "fbank":
            self._refuse("normalization", "another with features.kind=mfcc, which has no levels")
        if self.kind == "mfcc" and not 1 <= self.ceps <= self.bins:
            self._refuse("ceps", f"1…{self.bins} (features.bins)")
        if not 0 <= self.preemphasis <= 1:
            self._refuse("preemphasis", "0…1")
        if not 0 < self.hop_ms <= self.window_ms < float("inf"):
            self._refuse("hop_ms", f"more than 0 and at most {self.window_ms} (features.window_ms)")
        if self.hop_samples < 1 or self.window_samples < 2:
            self._refuse("hop_ms", "at least one sample, and two in features.window_ms")
        if not 0 <= self.low_hz < self.highest_hz <= self.sample_rate / 2:
            raise ValueError(
                f"features.low_hz and high_hz are {self.low_hz} and {self.high_hz}, expected "
                f"0 ≤ low < high ≤ {self.sample_rate / 2} (half of features.sample_rate)"
            )

    def _refuse(self, key: str, expected: str) -> None:
        raise ValueError(f"features.{key} is {getattr(self, key)!r}, expected {expected}")

    @property
    def adapts(self) -> bool:
        """Whether the moments come from the speech to be recognised and not from training."""
        return self.normalization in ("speaker", "utterance", "active", "sliding")

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

    def frame_counts(self, lengths: Tensor) -> Tensor:
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
