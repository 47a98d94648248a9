"""Jobs side by side: in processes, in threads, or on a Ray cluster."""

__all__ = ["base", "processes", "ray", "threads"]
