"""The layers of crackflow's networks as numbers, for peers that can't import them. train_step checks the parameters.

FAMILY: stem, (filters, residual blocks) of each strided stage, and whether it pads; without padding, a residual block
crops two cells from each side. SEED: filters of the convolutions.
"""

FAMILY = {
    "crackflow_xs": (16, ((32, 0), (32, 0), (48, 0)), False),
    "crackflow_s": (32, ((32, 0), (64, 0), (96, 1)), False),
    "crackflow_m": (32, ((48, 1), (96, 1), (160, 1)), True),
    "crackflow_l": (48, ((64, 2), (128, 2), (256, 2)), True),
}
SEED, SEED_DENSE = (32, 64, 64), 64
