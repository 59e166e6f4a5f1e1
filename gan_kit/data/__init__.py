"""Data sets as arrays, and batches of them in an order that can be resumed exactly."""

from gan_kit.data.arrays import Arrays, Source
from gan_kit.data.datamodule import ArrayDataModule, DigitsData, FashionMNISTData, FolderData, RingData
from gan_kit.data.digits import Digits
from gan_kit.data.fashion_mnist import FashionMNIST
from gan_kit.data.folder import Folder
from gan_kit.data.loader import BatchLoader, RawBatch
from gan_kit.data.ring import Ring
from gan_kit.data.samples import Samples, load_samples
from gan_kit.data.transforms import PadTo, Resize, Transform

__all__ = [
    "ArrayDataModule",
    "Arrays",
    "BatchLoader",
    "Digits",
    "DigitsData",
    "FashionMNIST",
    "FashionMNISTData",
    "Folder",
    "FolderData",
    "PadTo",
    "RawBatch",
    "Resize",
    "Ring",
    "RingData",
    "Samples",
    "Source",
    "Transform",
    "load_samples",
]
