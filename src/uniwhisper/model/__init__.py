"""The network: Whisper encoder -> subsampler -> adapter -> frozen decoder."""
