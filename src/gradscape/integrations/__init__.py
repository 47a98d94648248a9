"""Callbacks and sinks for the tools people train with; none is imported unasked.

lightning.py     a callback for Lightning's Trainer
transformers.py  a callback for the Trainer of transformers
trackers.py      rows of a watch to JSONL, TensorBoard, Weights & Biases and MLflow
"""
