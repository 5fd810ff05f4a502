"""The method: SLICER, file by file as the paper tells it."""
