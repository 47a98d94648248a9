"""Rules on transformers: attention, output logits, residual stream, routers and adapters."""

__all__ = ["limits", "rules"]
