"""From TFRecord to batches: streaming, packed, remote; shuffling and decoding."""
