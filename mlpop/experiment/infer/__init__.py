"""Inference with trained rounds."""
