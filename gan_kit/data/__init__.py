"""Data sets as arrays, and batches of them in an order that can be resumed exactly."""

from __future__ import annotations

from gan_kit.lazy import lazy_names

# Where each public name lives. Imported at first use: preparing a folder must not wait for torch.
__getattr__, __all__ = lazy_names(
    __name__,
    {
        "arrays": "Arrays Source",
        "cifar10": "CIFAR10",
        "datamodule": "ArrayDataModule CIFAR10Data DigitsData FashionMNISTData FolderData GridData RingData "
        "StackedDigitsData",
        "digits": "Digits",
        "drums": "Drums",
        "fashion_mnist": "FashionMNIST",
        "folder": "Folder",
        "fsdd": "FSDD",
        "grid": "Grid",
        "ljspeech": "LJSpeech",
        "loader": "BatchLoader RawBatch",
        "packed": "Packed",
        "pairs": "DigitPairs DigitPairsData PairFolder PairsData Unpaired UnpairedLoader",
        "ring": "Ring",
        "samples": "Samples load_samples",
        "sound_folder": "SoundFolder",
        "sound_modules": "DrumsData FSDDData LJSpeechData SoundDataModule SoundFolderData SpeechCommandsData TonesData",
        "speech_commands": "SpeechCommands",
        "stacked_digits": "StackedDigits",
        "tones": "Tones",
        "transforms": "PadTo Resize Transform",
    },
)
