"""Trained weights and where they go: files, the hub, HEAR, EVAR, ONNX."""
