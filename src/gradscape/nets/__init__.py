"""Networks from plain arguments: `vgg` builds the paper's family."""

from gradscape.nets.vgg import VGG, vgg

__all__ = ["VGG", "vgg"]
