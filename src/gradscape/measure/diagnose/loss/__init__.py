"""Rules on the loss over steps and on what it was made of."""

__all__ = ["curve", "limits", "rules", "terms"]
