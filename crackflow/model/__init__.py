"""Networks, augmentation, the schedule, and the H5 file that holds a trained model. Imports core alone."""
