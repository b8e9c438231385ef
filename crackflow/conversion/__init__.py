"""Convert folders of images to TFRecord: layouts, scanning, duplicates, splits and shards."""
