"""Programs that deliver batches with other input pipelines, one a file, so that they can be compared in turns."""
