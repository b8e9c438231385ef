"""From folders of photographs to batches of pixels. Imports core alone."""
