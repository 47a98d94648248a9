"""Measurements that leave a model as found."""
