"""The perceptual codec: seven mid-level features of how a performance sounds, over time."""
