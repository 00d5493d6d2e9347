"""The one training loop and what it needs.

trainer.py      the loop: steps, resume, a time limit, progress
torch_import.py how torch is imported: its threads and its memory
devices.py      the device of a name, and the processes of a training
checkpoints.py  the state of each stage in a file
clock.py        steps, seconds and the learning rate of a stage
losses.py       the losses that the papers name
masking.py      seeded random masks
"""

from unmask.training.torch_import import import_torch

import_torch()
