"""Networks from plain arguments: VGG, ResNet, plain and dense networks."""

from gradscape.nets.densenet import DenseNet, densenet
from gradscape.nets.layers import Layers
from gradscape.nets.resnet import ResNet, resnet
from gradscape.nets.vgg import VGG, vgg

__all__ = ["VGG", "DenseNet", "Layers", "ResNet", "densenet", "resnet", "vgg"]
