"""A transform, a predictor and a codec for ctr-streamer."""
