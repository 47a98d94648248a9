"""Learning-rate range test: the rate at which the loss falls fastest, and the one that diverges."""

__all__ = ["curve", "lr_range", "optimizer"]
