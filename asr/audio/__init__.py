"""Audio files to waveforms through soundfile, with the checks that libraries leave out.

Reads what libsndfile reads: RIFF, NIST SPHERE (also inside `.wav`), FLAC, Ogg/Opus and more. A
file that holds less than its header promises is an error.
"""

from asr.audio.checks import Waveform
from asr.audio.headers import AudioInfo
from asr.audio.reader import (
    ENDINGS,
    Inspection,
    convert,
    from_array,
    info,
    inspect,
    load,
    on_disk,
    stream,
)

__all__ = [
    "ENDINGS",
    "AudioInfo",
    "Inspection",
    "Waveform",
    "convert",
    "from_array",
    "info",
    "inspect",
    "load",
    "on_disk",
    "stream",
]
