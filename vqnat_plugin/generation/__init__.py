"""Latent search, words, candidates, rescoring and verification, for fairseq."""
