"""How much can be read off frozen embeddings: probes, folds, intervals, baselines, comparisons."""
