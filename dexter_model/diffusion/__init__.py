"""What diffusion systems share: noise schedules, sampling steps, guidance, joining of windows."""
