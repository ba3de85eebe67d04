"""Training the visual branch of a grounding network to say of each cell what covers its middle."""
