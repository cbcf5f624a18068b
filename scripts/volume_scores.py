"""Score stained volumes against a true one: ``python -m scripts.volume_scores --stained PATH --truth STAIN``."""

from bundle.common.command_line import command
from bundle.evaluation.volumes_command import volume_scores

if __name__ == "__main__":
    command(volume_scores)
