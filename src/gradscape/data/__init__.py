"""Images for training, verified and cached.

`gradscape.data.device_batches` is not imported here: locating and checking data needs no torch.
"""

from gradscape.data.images import STATISTICS, ImageSet, Split, split
from gradscape.data.load import load_images

__all__ = ["STATISTICS", "ImageSet", "Split", "load_images", "split"]
