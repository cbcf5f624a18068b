"""Generators, and what they share with the discriminators, which are MONAI's."""

from bundle.networks.field import FieldGenerator
from bundle.networks.layers import INITIALISATIONS, initialise, instance_norm, score
from bundle.networks.resnet import UPSAMPLING, ResidualBlock, ResnetGenerator
from bundle.networks.unet import UnetGenerator, unet_levels

__all__ = [
    "INITIALISATIONS",
    "UPSAMPLING",
    "FieldGenerator",
    "ResidualBlock",
    "ResnetGenerator",
    "UnetGenerator",
    "initialise",
    "instance_norm",
    "score",
    "unet_levels",
]
