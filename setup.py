import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent


def version():
    # Read, not imported: importing the package needs TensorFlow, which pip has not
    # installed yet when it runs this file.
    text = (HERE / "ec_estimator" / "version.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE).group(1)


INSTALL_REQUIRES = [
    # 1.15 is the last TensorFlow 1, and the one whose private names we rely on.
    "tensorflow>=1.15,<1.16",
    "tensorflow-estimator>=1.15,<1.16",
    # TensorFlow 1.15 leaves the next three open upwards, and breaks with what pip then
    # picks. From 1.20 on NumPy calls __array__ of symbolic tensors: building a Keras
    # LSTM raises NotImplementedError; 1.19 warns at every constant.
    "numpy<1.19",
    # h5py 3 returns str where Keras expects bytes: load_model of an HDF5 file raises
    # "'str' object has no attribute 'decode'".
    "h5py<3",
    # After 3.20 comes 4.21, which refuses TensorFlow's generated code: import
    # tensorflow raises "Descriptors cannot not be created directly".
    "protobuf<3.21",
    "absl-py",
    "tqdm",
    # Part of the standard library from 3.7 on.
    'dataclasses; python_version < "3.7"',
]

DEMO = ["scikit-learn"]

# The HTML page of `python -m ec_estimator report`.
REPORT = ["jinja2>=3", "matplotlib>=3.3"]

# The last versions that work beside TensorFlow 1.15's protobuf and NumPy.
ONNX = ["onnx==1.14.1", "tf2onnx==1.16.1", "protobuf>=3.20.2"]

# Its files' format is that of the converter; it has a wheel for Python 3.7.
MNN = ["MNN==3.6.0"]

DEV = [
    *DEMO,
    *REPORT,
    *ONNX,
    # Computes files as they are written, op by op, beside TensorFlow.
    "onnxruntime==1.10.0",
    *MNN,
    "hypothesis",
    "pytest",
    "pytest-xdist",
    # Exact, since a formatter's or linter's next version may judge the same code
    # differently. Neither of these two has a version for Python 3.6.
    'black==23.3.0; python_version >= "3.7"',
    'ruff==0.17.6; python_version >= "3.7"',
]

setup(
    name="ec_estimator",
    version=version(),
    description="Model compression training for TensorFlow 1.15 Estimators",
    license="Apache-2.0",
    # No TensorFlow 1.15 wheel exists for Python 3.8 or later.
    python_requires=">=3.6,<3.8",
    packages=find_packages(include=["ec_estimator", "ec_estimator.*"]),
    package_data={"ec_estimator.report": ["page.html"]},
    install_requires=INSTALL_REQUIRES,
    extras_require={
        "demo": DEMO,
        "report": REPORT,
        "onnx": ONNX,
        "mnn": MNN,
        "dev": DEV,
    },
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3.6",
        "Programming Language :: Python :: 3.7",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
