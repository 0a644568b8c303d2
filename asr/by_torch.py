"""A recogniser of torch in use: on a GPU, and where `asr.network` cannot run it."""

import torch

from asr.checkpoint import Checkpoint, load_from
from asr.features.frames import Frames
from asr.features.moments import Moments
from asr.lstm.inference import GATES
from asr.model_file import ModelFile
from asr.network import Array, Model, Network
from asr.recognizer import Recognizer
from asr.search import SearchConfig
from asr.search.graph import graph_of


class TorchNetwork(Network):
    """A `Recognizer` in evaluation mode, on its device."""

    def __init__(self, recognizer: Recognizer) -> None:
        self.recognizer = recognizer
        self.config, self.vocabulary = recognizer.config, recognizer.vocabulary
        features = recognizer.features
        training = features.mean.cpu().numpy(), features.std.cpu().numpy()
        self.frames = Frames(self.config.features, training)
        self.decoder = recognizer.criterion.decoder

    @torch.no_grad()
    def emissions(self, static: Array, moments: Moments | None = None) -> Array:
        recognizer = self.recognizer
        frames = torch.from_numpy(self.frames.normalised(static, moments)).to(recognizer.device)
        lengths = torch.tensor([len(frames)], device=recognizer.device)
        encoded, _ = recognizer.encoder(frames[None], lengths)
        emissions: Array = recognizer.criterion.emissions(encoded)[0].float().cpu().numpy()
        return emissions

    @torch.no_grad()
    def gates(
        self, static: Array, moments: Moments | None, layer: int, direction: int
    ) -> dict[str, Array]:
        recognizer = self.recognizer
        frames = torch.from_numpy(self.frames.normalised(static, moments)).to(recognizer.device)
        lengths = torch.tensor([len(frames)], device=recognizer.device)
        traces, _ = recognizer.encoder.trace(frames[None], lengths)
        gates = traces[layer][direction].gates
        return {name: gates[name][0].cpu().numpy() for name in gates if name in GATES}


def load(file: ModelFile, device: str) -> TorchNetwork:
    """The network of a file that was read, on a device; raises `DataError` as `checkpoint.load`."""
    return TorchNetwork(load_from(file, device, language_model=False).recognizer)


def in_use(loaded: Checkpoint) -> Model:
    """The model of a checkpoint that is in memory."""
    network, ngram = TorchNetwork(loaded.recognizer.eval()), loaded.language_model
    graph = None if ngram is None else graph_of(ngram, network.vocabulary.phones)
    search = loaded.search or SearchConfig()
    return Model(network, search, graph, loaded.detector, loaded.calibration, loaded.streaming)
