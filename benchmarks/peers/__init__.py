"""Programs that deliver batches with other input pipelines, one per file, so that they can be compared in turn."""
