"""Makes the TFRecords that examples/cifar10.py reads from the official CIFAR-10.

    python -m examples.make_cifar10_tfrecords --source=cifar-10-binary.tar.gz \\
        --data_dir=cifar10

The source is the *binary* version of https://www.cs.toronto.edu/~kriz/cifar.html, the
archive or the folder in it. The Python version is not read: its files are pickles,
which run code of their author's choice when they are loaded. Images are written as PNG,
so nothing is lost, and labels as indices into the official list of classes.

Source of the data: Krizhevsky 2009, Learning Multiple Layers of Features from Tiny
Images.
"""
import glob
import os
import sys
import tarfile
import zlib

import numpy as np
import tensorflow.compat.v1 as tf
from absl import app, flags

FLAGS = flags.FLAGS
RECORD_BYTES = 1 + 3 * 32 * 32  # The label, then the red, green and blue plane.
RECORDS_A_FILE = 10000
SHARDS_A_FILE = 2
SPLITS = {
    "train": [f"data_batch_{i}.bin" for i in range(1, 6)],
    "test": ["test_batch.bin"],
}
NAMES = SPLITS["train"] + SPLITS["test"]


def read_source(source):
    """The content of the six .bin files, 180 MB, by name.

    Members of an archive are read and never unpacked, so the folders that it gives
    them do not matter.

    Args:
      source: the archive or the folder.

    Returns:
      {name: bytes}.

    Raises:
      ValueError: a file is missing, damaged, twice there or of a wrong size.
      OSError: the source cannot be read.
    """
    if not os.path.exists(source):
        raise FileNotFoundError(f"--source: there is no {source!r}")
    entries = _folder_entries if os.path.isdir(source) else _archive_entries
    contents = {}
    for name, content in entries(source):
        if name in contents:
            raise ValueError(f"{source!r} has {name!r} twice; it should have it once")
        contents[name] = content
    missing = [name for name in NAMES if name not in contents]
    if missing:
        raise ValueError(
            f"{source!r} has no {missing[0]!r}; use the binary version of CIFAR-10, "
            "cifar-10-binary.tar.gz, not the Python or Matlab one"
        )
    return contents


def _folder_entries(folder):
    """Yields (name, content)."""
    for name in NAMES:
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            _check_size(folder, name, os.path.getsize(path))
            with open(path, "rb") as file:
                yield name, file.read()


def _archive_entries(path):
    """Yields (name, content)."""
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                name = os.path.basename(member.name)
                if member.isfile() and name in NAMES:
                    _check_size(path, name, member.size)
                    yield name, archive.extractfile(member).read()
            while archive.fileobj.read(1 << 20):
                pass  # To the end, where gzip compares its checksum.
    except (OSError, tarfile.TarError, EOFError, zlib.error) as error:
        raise ValueError(
            f"{path!r} is damaged or no tar archive ({error}); download it again"
        ) from error


def _check_size(source, name, size):
    if size == 0 or size % RECORD_BYTES or size > RECORDS_A_FILE * RECORD_BYTES:
        raise ValueError(
            f"{name!r} in {source!r} has {size} bytes; it should have 1 to "
            f"{RECORDS_A_FILE} records of {RECORD_BYTES} bytes"
        )


def parse(name, content):
    """The records of one file.

    Args:
      name: for the error.
      content: bytes, a multiple of RECORD_BYTES.

    Returns:
      (images, uint8 `[count, 32, 32, 3]`; labels, uint8 `[count]`).

    Raises:
      ValueError: a label is not in [0, 9].
    """
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD_BYTES)
    labels = records[:, 0]
    if labels.max() > 9:
        index = int(labels.argmax())
        raise ValueError(
            f"{name!r} has label {labels[index]} in record {index}; labels are 0 to 9"
        )
    return records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels


def encode(images):
    """Yields each image of uint8 `[count, 32, 32, 3]` as PNG."""
    with tf.Graph().as_default(), tf.Session() as session:
        image = tf.placeholder(tf.uint8, [32, 32, 3])
        png = session.make_callable(tf.image.encode_png(image), [image])
        for pixels in images:
            yield png(pixels)


def write_shard(path, images, labels):
    """Writes Examples to a file, which has its name only when it is whole."""
    with tf.io.TFRecordWriter(path + ".part") as writer:
        for png, label in zip(encode(images), labels):
            example = tf.train.Example()
            feature = example.features.feature
            feature["image/encoded"].bytes_list.value.append(png)
            feature["image/class/label"].int64_list.value.append(int(label))
            writer.write(example.SerializeToString())
    os.replace(path + ".part", path)


def convert(source, data_dir):
    """Writes ten training and two test shards.

    Raises:
      ValueError: as read_source and parse, or there are shards already.
      OSError: the source cannot be read or the folder not written.
    """
    os.makedirs(data_dir, exist_ok=True)
    old = glob.glob(os.path.join(glob.escape(data_dir), "t*-*.tfrecord"))
    if old:
        raise ValueError(f"--data_dir: {min(old)!r} is there already; use a new folder")
    files = {name: parse(name, data) for name, data in read_source(source).items()}
    for name, (images, labels) in files.items():
        split = "test" if name in SPLITS["test"] else "train"
        shards = len(SPLITS[split]) * SHARDS_A_FILE
        first = SPLITS[split].index(name) * SHARDS_A_FILE
        parts = np.array_split(np.arange(len(labels)), SHARDS_A_FILE)
        for shard, part in enumerate(parts, first):
            path = os.path.join(
                data_dir, f"{split}-{shard:05d}-of-{shards:05d}.tfrecord"
            )
            write_shard(path, images[part], labels[part])
        print(f"{name}: {len(labels)} images", flush=True)


def main(_):
    try:
        convert(FLAGS.source, FLAGS.data_dir)
    except (OSError, ValueError) as error:
        sys.exit(f"examples.make_cifar10_tfrecords: {error}")


if __name__ == "__main__":
    # Here and not above, so that importing this module asks nobody for the flags.
    flags.DEFINE_string(
        "source",
        None,
        "cifar-10-binary.tar.gz, or the folder with its data_batch_1.bin and so on; "
        "not the Python version: its files are pickles and could run code when loaded",
        required=True,
    )
    flags.DEFINE_string(
        "data_dir", None, "folder for the TFRecord files", required=True
    )
    app.run(main)
