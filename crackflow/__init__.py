"""crackflow: surface-crack classification on TensorFlow, from a folder of photographs to an H5 model.

Importing the package loads no TensorFlow; each verb is a module run as ``python -m crackflow.<verb>``.
"""

__version__ = "0.1.0"
