"""One thread a process: tensors here are small, and threads that wait for a busy core cost more."""

import torch

torch.set_num_threads(1)
