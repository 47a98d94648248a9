"""Compare the ranks of a distributed training, by checksums and signs of life that a store passes on."""

__all__ = ["checksum", "comparison", "replicas", "watch_ranks"]
