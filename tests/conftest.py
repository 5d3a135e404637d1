"""What all tests share."""

import os

# One thread a step: the models of tests are small, and threads that wait for a core only spin.
os.environ.setdefault("OMP_NUM_THREADS", "1")
