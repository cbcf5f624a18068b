"""What a person types around the bundle."""

import os

# OpenMP reads this when PyTorch loads. Threads that spin while they wait make a step beside a busy core several times
# as long (docs/performance.md); what waits asleep costs an idle machine little.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
