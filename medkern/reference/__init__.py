"""Readable definitions of every op in plain PyTorch: the oracle, and the fallback."""
