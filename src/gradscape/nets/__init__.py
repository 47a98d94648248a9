"""Networks from plain arguments: the paper's `vgg`, and `densenet`, of what `Layers` makes."""

from gradscape.nets.densenet import DenseNet, densenet
from gradscape.nets.layers import Layers
from gradscape.nets.vgg import VGG, vgg

__all__ = ["VGG", "DenseNet", "Layers", "densenet", "vgg"]
