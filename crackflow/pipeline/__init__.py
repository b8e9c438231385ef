"""From TFRecords to batches: streaming, packed or remote; shuffling and decoding."""
