"""What all tests share."""

import os

from hypothesis import settings

# One thread a step: the models of tests are small, and threads that wait for a core only spin.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same cases every time, and none fails for being slow.
settings.register_profile("offramp", deadline=None, derandomize=True)
settings.load_profile("offramp")
