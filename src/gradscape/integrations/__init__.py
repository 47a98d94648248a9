"""Callbacks and sinks for the tools people train with; each is imported only where it is used.

lightning.py     a callback for Lightning's Trainer
transformers.py  a callback for the Trainer of transformers
trackers.py      rows of a watch to JSONL, TensorBoard, Weights & Biases and MLflow
"""
