"""Networks from plain arguments: VGGs, ResNets, plain nets and DenseNets, of what `Layers` makes."""

from gradscape.nets.densenet import DenseNet, densenet
from gradscape.nets.layers import Layers
from gradscape.nets.resnet import ResNet, resnet
from gradscape.nets.vgg import VGG, vgg

__all__ = ["VGG", "DenseNet", "Layers", "ResNet", "densenet", "resnet", "vgg"]
