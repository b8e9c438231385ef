"""From folders of photographs to TFRecord: layouts, scanning, duplicates, splits, shards."""
