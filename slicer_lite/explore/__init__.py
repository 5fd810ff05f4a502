"""Looking into a trained network: embeddings, clusters, maps, figures, and back from pictures to sound."""
