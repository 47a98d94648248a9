"""Networks from plain arguments: `vgg` builds the paper's, of what `Layers` makes."""

from gradscape.nets.layers import Layers
from gradscape.nets.vgg import VGG, vgg

__all__ = ["VGG", "Layers", "vgg"]
