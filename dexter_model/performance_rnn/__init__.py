"""Performance RNN: an LSTM that improvises on the piano, event by event (Oore et al. 2018, arXiv 1808.03715)."""
