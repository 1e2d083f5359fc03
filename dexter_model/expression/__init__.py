"""DExter: its denoisers and how windows of notes become batches."""
