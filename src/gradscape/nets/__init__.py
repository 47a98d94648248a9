"""Networks from plain arguments: the paper's VGGs, ResNets and plain nets, of what `Layers` makes."""

from gradscape.nets.layers import Layers
from gradscape.nets.resnet import ResNet, resnet
from gradscape.nets.vgg import VGG, vgg

__all__ = ["VGG", "Layers", "ResNet", "resnet", "vgg"]
