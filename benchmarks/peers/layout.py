"""The layers of our networks as numbers, for peers that can't import them. train_step checks the parameters.

FAMILY: stem, then (filters, residual blocks) of each strided stage. SEED: filters of the convolutions.
"""

FAMILY = {
    "crackflow_xs": (16, ((32, 0), (32, 0), (48, 0))),
    "crackflow_s": (32, ((32, 0), (64, 0), (96, 1))),
    "crackflow_m": (32, ((48, 1), (96, 1), (160, 1))),
    "crackflow_l": (48, ((64, 2), (128, 2), (256, 2))),
}
SEED, SEED_DENSE = (32, 64, 64), 64
