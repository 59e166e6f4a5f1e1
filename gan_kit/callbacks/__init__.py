"""What happens around the training step. None of them touches the training stream of random numbers."""

from gan_kit.callbacks.budget import Budget
from gan_kit.callbacks.checkpoints import AtomicCheckpointIO, Checkpoints
from gan_kit.callbacks.compiled import Compile
from gan_kit.callbacks.evaluation import Evaluation
from gan_kit.callbacks.guard import Guard
from gan_kit.callbacks.guardian import Guardian
from gan_kit.callbacks.interrupt import Interrupt
from gan_kit.callbacks.metrics import MetricsLog
from gan_kit.callbacks.progress import Progress
from gan_kit.callbacks.samples import SampleGrid
from gan_kit.callbacks.semi_supervised import SemiSupervised
from gan_kit.callbacks.stopwatch import Stopwatch

__all__ = [
    "AtomicCheckpointIO",
    "Budget",
    "Checkpoints",
    "Compile",
    "Evaluation",
    "Guard",
    "Guardian",
    "Interrupt",
    "MetricsLog",
    "Progress",
    "SampleGrid",
    "SemiSupervised",
    "Stopwatch",
]
