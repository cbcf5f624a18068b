"""What a GPU makes of the paper's network, of the recommended one and of a training step, in under ten minutes.

``python -m scripts.bench.gpu > gpu.md``; ``--device cpu --small`` tries it where no GPU is. What data sheets let one
expect: ``python -m scripts.bench.roofline``.
"""

from __future__ import annotations

from bundle.common.command_line import command
from bundle.common.errors import InputError


def main(device: str = "cuda", small: bool = False, minutes: float = 9.0, compiled: bool = True) -> None:
    """Print tables as Markdown; nothing of the GPU is set, and a line says what did not work or had no time.

    Args:
        device: cuda, cuda:1 and so on, or cpu.
        small: tiny networks and images, to see that it runs.
        minutes: to spend; what is not expected to fit into the rest is left out.
        compiled: also time torch.compile, last: it takes up to a minute each to begin.
    """
    if minutes <= 0:
        raise InputError(f"minutes is {minutes}; it must be above 0.")
    from scripts.bench.gpu_report import report  # here, as PyTorch takes seconds to load

    report(device, small, minutes, compiled)


if __name__ == "__main__":
    command(main)
