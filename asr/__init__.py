"""Speech phoneme recognition: waveform → features → stacked LSTM → phones → phone error rate.

Shape letters, declared here once and used in every signature:

    N  utterances in a batch          D  width of an encoded frame
    S  samples of a waveform          U  phones of a target
    T  feature frames                 V  labels of a vocabulary, blank = 0 included
    T' encoded frames (subsampled)    F  width of a feature frame

Integer lengths `(N,)` travel beside every padded tensor.
"""

__version__ = "0.1.0"
