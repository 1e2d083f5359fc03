"""Files in: scores, performances and alignments, each untrusted until read."""
