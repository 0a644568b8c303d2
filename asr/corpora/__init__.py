"""Corpora: a tree on disk becomes recordings by split; one module for each corpus."""

from asr.corpora import folder, librispeech, synthetic, timit
from asr.corpora.folder import FolderConfig
from asr.corpora.librispeech import LibriSpeechConfig
from asr.corpora.recording import Corpus, CorpusConfig
from asr.corpora.synthetic import SyntheticConfig
from asr.corpora.timit import TimitConfig

CONFIGS: dict[str, type[CorpusConfig]] = {
    "folder": FolderConfig,
    "librispeech": LibriSpeechConfig,
    "synthetic": SyntheticConfig,
    "timit": TimitConfig,
}


def find(config: CorpusConfig) -> Corpus:
    """Walk the tree that `config` describes; no audio is opened."""
    match config:
        case TimitConfig():
            return timit.find(config)
        case SyntheticConfig():
            return synthetic.find(config)
        case FolderConfig():
            return folder.find(config)
        case LibriSpeechConfig():
            return librispeech.find(config)
    raise TypeError(f"{type(config).__name__} is the configuration of no corpus")
