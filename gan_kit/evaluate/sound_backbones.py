"""Published networks of sound as extractors: VGGish, whose Fréchet distance is FAD, PANNs' Cnn14, and CLAP.

Each resamples to its own rate, and has one vector a sound: of longer sounds the mean over its windows.
"""

from __future__ import annotations

import importlib
from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_kit.audio.spectral import mel_filterbank
from gan_kit.evaluate.features import Extracted, Extractor, as_sounds
from gan_kit.evaluate.resample import METHOD, resampled
from gan_kit.evaluate.weights import digest_of, find_weights, load_state
from gan_kit.files import sha256_of
from gan_kit.types import AudioSpec, UserError

__all__ = ["CLAP", "PANNs", "VGGish", "clap_for", "panns_for", "vggish_for"]


class _SoundBackbone(Extractor):
    """x: (B, C, T) int16 at `sample_rate` -> (B, dims); channels are averaged.

    least: samples at `rate` that the network needs
    """

    costly = True
    rate: int
    least: int

    def __init__(self, name: str, sample_rate: int, untrained: bool):
        super().__init__()
        self.name, self.sample_rate = f"{'untrained-' if untrained else ''}{name}", sample_rate

    def settings(self) -> dict[str, Any]:
        kept = {"sample_rate": self.sample_rate, "rate": self.rate, "windows": "mean"}
        return kept if self.rate == self.sample_rate else kept | {"resample": METHOD}

    @classmethod
    def check_length(cls, name: str, samples: int, sample_rate: int) -> None:
        seconds, least = samples / sample_rate, cls.least / cls.rate
        if seconds < least:
            raise UserError(
                f"extractor {name} needs {1000 * least:.0f} ms of sound, these have {1000 * seconds:.0f} ms: "
                "padding them would score the silence; use extractor=classifier, or mel"
            )

    def extract(self, x: Tensor) -> Extracted:
        mono = as_sounds(x)
        self.check_length(self.name, mono.shape[-1], self.sample_rate)
        wave = resampled(mono, self.sample_rate, self.rate).to(next(self.parameters()).device)
        return self.embed(wave)

    @abstractmethod
    def embed(self, wave: Tensor) -> Extracted:
        """(B, T) in [-1, 1] at `rate`"""


def _weights(name: str, url: str, sha256: str, path: str | Path | None) -> tuple[Path, str]:
    """A weights file and its checksum: the published one, or whatever `path` names, which is recorded as it is."""
    if path is not None and Path(path).expanduser().is_file():
        file = Path(path).expanduser()
        return file, sha256_of(file)
    return find_weights(name, url, sha256, path), sha256


# VGGish


class VGGish(_SoundBackbone):
    """VGGish (Hershey et al. 2017), the network of FAD (Kilgour et al. 2019): 128 values a window of 0.96 s, without
    the last ReLU and without PCA.

    path: a weights file of torchvggish's names; None looks for the published one
    untrained: random weights, the same every time; for tests, and the scores say so
    """

    dims, rate = 128, 16_000
    least = 400 + 95 * 160  # 96 frames of 25 ms, 10 ms apart
    file = "vggish-10086976.pth"
    url = f"https://github.com/harritaylor/torchvggish/releases/download/v0.1/{file}"
    sha256 = "10086976245803799d9194e9a73d9b6c1549c71d1b80106f5cade5608a561f4b"

    def __init__(self, sample_rate: int, path: str | Path | None = None, untrained: bool = False):
        super().__init__("vggish", sample_rate, untrained)
        found, sha256 = (None, "") if untrained else _weights(self.file, self.url, self.sha256, path)
        layers: list[nn.Module] = []
        channels = 1
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for width in (64, "M", 128, "M", 256, 256, "M", 512, 512, "M"):
                if width == "M":
                    layers.append(nn.MaxPool2d(2))
                    continue
                layers += [nn.Conv2d(channels, int(width), 3, padding=1), nn.ReLU(inplace=True)]
                channels = int(width)
            self.net = nn.ModuleDict({
                "features": nn.Sequential(*layers),
                "embeddings": nn.Sequential(
                    nn.Linear(512 * 6 * 4, 4096), nn.ReLU(inplace=True),
                    nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Linear(4096, 128),
                ),
            })  # fmt: skip
        self.bands = nn.Buffer(_vggish_bands(), persistent=False)
        if found is not None:
            self.net.load_state_dict(load_state(found, {k: v.shape for k, v in self.net.state_dict().items()}))
        self.weights_sha256 = sha256 or digest_of(self.net.state_dict())
        self.requires_grad_(False).train(False)

    def frames(self, wave: Tensor) -> Tensor:
        """(B, T) at 16 kHz -> (B, N, 96, 64) log-mel windows; what is left of a window at the end is dropped"""
        pieces = wave.unfold(-1, 400, 160) * torch.hann_window(400, device=wave.device)
        mel = (torch.fft.rfft(pieces, 512).abs() @ self.bands + 0.01).log()  # (B, L, 64)
        windows = mel.shape[1] // 96
        return mel[:, : windows * 96].unflatten(1, (windows, 96))

    def embed(self, wave: Tensor) -> Extracted:
        windows = self.frames(wave)
        h = self.net["features"](windows.flatten(0, 1)[:, None])  # (B N, 512, 6, 4)
        h = self.net["embeddings"](h.permute(0, 2, 3, 1).flatten(1))
        return Extracted(h.unflatten(0, windows.shape[:2]).mean(1).float(), None)


def _vggish_bands() -> Tensor:
    """(257, 64) triangles, straight in mels where librosa's are straight in Hz; 125 to 7500 Hz, nothing at 0 Hz"""

    def mel(hz: Tensor) -> Tensor:
        return 1127 * torch.log1p(hz / 700)

    bins = mel(torch.linspace(0, 8000, 257, dtype=torch.float64))[:, None]
    ends = mel(torch.tensor([125.0, 7500.0], dtype=torch.float64))
    edges = torch.linspace(float(ends[0]), float(ends[1]), 66, dtype=torch.float64)
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    bands = torch.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)).clamp_min(0)
    bands[0] = 0
    return bands.float()


# PANNs


class PANNs(_SoundBackbone):
    """PANNs' Cnn14 at 16 kHz (Kong et al. 2020), trained on AudioSet: 2048 values, and AudioSet's 527 classes, which do
    not exclude each other and so are no probabilities.

    path: a weights file, as published or its "model" alone; None looks for the published one
    untrained: random weights, the same every time; for tests, and the scores say so
    """

    dims, rate = 2048, 16_000
    least = 31 * 160  # 32 frames, halved five times
    file = "Cnn14_16k_mAP=0.438.pth"
    url = "https://zenodo.org/records/3987831/files/Cnn14_16k_mAP%3D0.438.pth?download=1"
    sha256 = "e2ee543a27919542c2ea03eabaa70b24dcd4e6c8e05621de6b67a94e4c5058e6"
    widths = (64, 128, 256, 512, 1024, 2048)

    def __init__(self, sample_rate: int, path: str | Path | None = None, untrained: bool = False):
        super().__init__("panns", sample_rate, untrained)
        found, sha256 = (None, "") if untrained else _weights(self.file, self.url, self.sha256, path)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.net = nn.ModuleDict({"bn0": nn.BatchNorm2d(64), "fc1": nn.Linear(2048, 2048)})
            for i, width in enumerate(self.widths):
                block = {"conv1": nn.Conv2d(self.widths[i - 1] if i else 1, width, 3, padding=1, bias=False)}
                block |= {"conv2": nn.Conv2d(width, width, 3, padding=1, bias=False)}
                self.net[f"conv_block{i + 1}"] = nn.ModuleDict(
                    block | {"bn1": nn.BatchNorm2d(width), "bn2": nn.BatchNorm2d(width)}
                )
        spec = AudioSpec(self.rate, self.rate, 512, 160, 512, n_mels=64, fmin=50.0, fmax=8000.0, power=2.0)
        self.bands = nn.Buffer(mel_filterbank(spec), persistent=False)
        if found is not None:
            shapes = {k: v.shape for k, v in self.net.state_dict().items()}
            self.net.load_state_dict(load_state(found, shapes, part="model"))
        self.weights_sha256 = sha256 or digest_of(self.net.state_dict())
        self.requires_grad_(False).train(False)

    def log_mel(self, wave: Tensor) -> Tensor:
        """(B, T) at 16 kHz -> (B, L, 64) dB, 32 ms frames every 10 ms, mirrored at the ends"""
        window = torch.hann_window(512, device=wave.device)
        power = torch.stft(wave, 512, 160, window=window, pad_mode="reflect", return_complex=True).abs().square()
        return 10 * (self.bands @ power).clamp_min(1e-10).log10().transpose(1, 2)

    def embed(self, wave: Tensor) -> Extracted:
        net = self.net
        h = net["bn0"](self.log_mel(wave).permute(0, 2, 1)[..., None])  # (B, 64, L, 1)
        h = h.permute(0, 3, 2, 1)  # (B, 1, L, 64)
        for i in range(len(self.widths)):
            block: Any = net[f"conv_block{i + 1}"]
            h = F.relu(block["bn1"](block["conv1"](h)))
            h = F.relu(block["bn2"](block["conv2"](h)))
            h = F.avg_pool2d(h, 2) if i < 5 else h
        h = h.mean(3)
        return Extracted(F.relu(net["fc1"](h.amax(2) + h.mean(2))).float(), None)


# CLAP


class CLAP(_SoundBackbone):
    """CLAP (Wu et al. 2023) through transformers: 512 values of the audio tower.

    model: a name on the hub, or a folder that holds one (offline)
    untrained: random weights, the same every time; for tests, and the scores say so
    """

    dims, rate, least = 512, 48_000, 4800

    def __init__(self, sample_rate: int, model: str = "laion/clap-htsat-unfused", untrained: bool = False):
        super().__init__("clap", sample_rate, untrained)
        self.model = model
        try:
            kit = importlib.import_module("transformers")
        except ImportError:
            raise UserError("extractor=clap needs transformers: pip install 'gan-kit[clap]'") from None
        if untrained:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                self.net = kit.ClapAudioModelWithProjection(kit.ClapAudioConfig())
            self.prepare = kit.ClapFeatureExtractor(truncation="rand_trunc")
        else:
            try:
                self.net = kit.ClapAudioModelWithProjection.from_pretrained(model)
                self.prepare = kit.ClapFeatureExtractor.from_pretrained(model)
            except Exception as e:  # the hub's client has dozens of kinds
                raise UserError(
                    f"the weights of {model} could not be had ({type(e).__name__}: {' '.join(str(e).split())[:200]}); "
                    f"fetch https://huggingface.co/{model} once where the network can be reached (HF_HOME is the "
                    "cache), or name the folder with extractor.model"
                ) from e
        if self.net.config.enable_fusion:  # takes parts of a sound at random
            raise UserError(
                f"{model} fuses parts that it draws at random; use an unfused one, as laion/clap-htsat-unfused"
            )
        self.weights_sha256 = digest_of(self.net.state_dict())
        self.requires_grad_(False).train(False)

    def settings(self) -> dict[str, Any]:
        # longer sounds than 10 s would be cut at random: their beginning is taken
        return super().settings() | {"model": self.model, "windows": "the first 10 s", "shorter": "repeated, padded"}

    def embed(self, wave: Tensor) -> Extracted:
        sounds = [np.asarray(w[: 10 * self.rate].cpu()) for w in wave]
        given = self.prepare(
            sounds, truncation="rand_trunc", padding="repeatpad", sampling_rate=self.rate, return_tensors="pt"
        ).to(wave.device)
        return Extracted(self.net(**given).audio_embeds.float(), None)


# of a data module


def _fitting(kind: Any, name: str, data: Any, *settings: Any) -> Any:
    if data is None or data.spec.audio is None:
        raise UserError(f"extractor={name} judges the sounds of a run; these are none")
    audio = data.spec.audio
    kind.check_length(name, audio.clip_samples, audio.sample_rate)  # before hundreds of megabytes are fetched
    return kind(audio.sample_rate, *settings)


def vggish_for(data: Any, path: str | Path | None = None, untrained: bool = False) -> VGGish:
    """For the sounds of a data module. Raises UserError for clips shorter than 975 ms."""
    return _fitting(VGGish, "vggish", data, path, untrained)


def panns_for(data: Any, path: str | Path | None = None, untrained: bool = False) -> PANNs:
    """For the sounds of a data module. Raises UserError for clips shorter than 310 ms."""
    return _fitting(PANNs, "panns", data, path, untrained)


def clap_for(data: Any, model: str = "laion/clap-htsat-unfused", untrained: bool = False) -> CLAP:
    """For the sounds of a data module."""
    return _fitting(CLAP, "clap", data, model, untrained)
