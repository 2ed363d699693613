"""From the official binary files to the batches of the example's input."""
import io
import tarfile

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from examples import cifar10_model
from examples import make_cifar10_tfrecords as make


def records(count, seed):
    """`count` records of a .bin file: random pixels, labels 0, 1, 2, ..."""
    random = np.random.RandomState(seed)
    content = random.randint(0, 256, (count, 3073)).astype(np.uint8)
    content[:, 0] = np.arange(count) % 10
    return content


@pytest.fixture
def bins():
    """{name: bytes} of a CIFAR-10 with five images a file."""
    return {name: records(5, i).tobytes() for i, name in enumerate(make.NAMES)}


def write_tar(path, bins, folder="cifar-10-batches-bin/"):
    with tarfile.open(str(path), "w:gz") as archive:
        for name, content in bins.items():
            member = tarfile.TarInfo(folder + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return str(path)


def write_folder(path, bins):
    path.mkdir()
    for name, content in bins.items():
        (path / name).write_bytes(content)
    return str(path)


def read_back(data_dir, split):
    """(images as uint8, labels) as the example's model gets them."""
    with tf.Graph().as_default(), tf.Session() as session:
        files = cifar10_model.find_files(str(data_dir), split)
        data = cifar10_model.dataset(files, 100, training=False)
        features, labels = session.run(tf.data.make_one_shot_iterator(data).get_next())
    pixels = features["image"] * cifar10_model.DEVIATION + cifar10_model.MEAN
    return np.rint(pixels).astype(np.uint8), labels


@pytest.mark.parametrize("write", [write_tar, write_folder])
def test_every_pixel_and_label_comes_back(tmp_path, bins, write):
    data_dir = tmp_path / "tfrecords"
    make.convert(write(tmp_path / "source", bins), str(data_dir))
    assert sorted(path.name for path in data_dir.iterdir()) == [
        *(f"test-0000{i}-of-00002.tfrecord" for i in range(2)),
        *(f"train-0000{i}-of-00010.tfrecord" for i in range(10)),
    ]
    images, labels = read_back(data_dir, "train")
    assert images.shape == (25, 32, 32, 3)
    np.testing.assert_array_equal(labels, [0, 1, 2, 3, 4] * 5)
    # Image 7 is the third of data_batch_2; its planes are red, green and blue.
    expected = records(5, 1)[2, 1:]
    for channel in range(3):
        plane = expected[1024 * channel : 1024 * (channel + 1)].reshape(32, 32)
        np.testing.assert_array_equal(images[7, :, :, channel], plane)
    images, labels = read_back(data_dir, "test")
    assert len(images) == 5 and labels.dtype == np.int32


def test_members_that_point_out_of_the_archive_are_written_nowhere(tmp_path, bins):
    source = write_tar(tmp_path / "a.tar.gz", bins, "../outside/")
    (tmp_path / "in").mkdir()
    make.convert(source, str(tmp_path / "in" / "data"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz", "in"]
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["data"]


@pytest.mark.parametrize("size", [0, 3072, 3073 * 10001])
@pytest.mark.parametrize("write", [write_tar, write_folder])
def test_a_file_of_a_wrong_size_is_refused(tmp_path, bins, write, size):
    bins["data_batch_3.bin"] = bytes(size)
    with pytest.raises(ValueError, match=rf"'data_batch_3.bin' in .* has {size} bytes"):
        make.convert(write(tmp_path / "source", bins), str(tmp_path / "data"))
    assert not list((tmp_path / "data").iterdir())


def test_the_python_version_is_refused(tmp_path, bins):
    pickles = {name[: -len(".bin")]: content for name, content in bins.items()}
    source = write_tar(tmp_path / "cifar-10-python.tar.gz", pickles)
    with pytest.raises(
        ValueError, match="no 'data_batch_1.bin'; use the binary version"
    ):
        make.read_source(source)


def test_a_label_out_of_range_is_refused(tmp_path, bins):
    content = records(5, 0)
    content[3, 0] = 10
    bins["test_batch.bin"] = content.tobytes()
    with pytest.raises(ValueError, match="'test_batch.bin' has label 10 in record 3"):
        make.convert(write_folder(tmp_path / "source", bins), str(tmp_path / "data"))


def test_a_name_that_is_there_twice_is_refused(tmp_path, bins):
    path = str(tmp_path / "a.tar")
    with tarfile.open(path, "w") as archive:
        for folder in "ab":
            member = tarfile.TarInfo(f"{folder}/test_batch.bin")
            member.size = 3073
            archive.addfile(member, io.BytesIO(bytes(3073)))
    with pytest.raises(ValueError, match="has 'test_batch.bin' twice"):
        make.read_source(path)


@pytest.mark.parametrize("damage", ["cut", "flip", "text"])
def test_a_damaged_archive_is_refused(tmp_path, bins, damage):
    path = tmp_path / "a.tar.gz"
    write_tar(path, bins)
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "flip":
        content[-6] ^= 1  # In the checksum.
    else:
        content = b"<html>404</html>"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a.tar.gz' is damaged or no tar archive"):
        make.read_source(str(path))


def test_a_source_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="--source: there is no '.*nowhere'"):
        make.convert(str(tmp_path / "nowhere"), str(tmp_path / "data"))


def test_shards_that_are_there_are_not_overwritten(tmp_path, bins):
    (tmp_path / "train-00000-of-00001.tfrecord").write_text("precious")
    with pytest.raises(ValueError, match="is there already; use a new folder"):
        make.convert(write_folder(tmp_path / "source", bins), str(tmp_path))


def test_jpegs_are_read_too(tmp_path):
    with tf.Graph().as_default(), tf.Session() as session:
        grey = np.full((32, 32, 3), 96, np.uint8)  # Exact in JPEG.
        jpeg = session.run(tf.io.encode_jpeg(grey, quality=100))
    example = tf.train.Example()
    example.features.feature["image/encoded"].bytes_list.value.append(jpeg)
    example.features.feature["image/class/label"].int64_list.value.append(9)
    with tf.io.TFRecordWriter(str(tmp_path / "test-0.tfrecord")) as writer:
        writer.write(example.SerializeToString())
    images, labels = read_back(tmp_path, "test")
    assert labels == [9] and (images == 96).all()
