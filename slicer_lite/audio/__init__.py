"""From a folder, a table or a list of sounds to clips at 16 kHz that are decoded once."""
