"""Diffusion Music Composer: short pieces as lists of notes, made from noise."""
