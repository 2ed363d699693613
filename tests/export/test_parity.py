"""How far answers may be apart, with numbers by hand."""
import numpy as np
import pytest

from ec_estimator.export.format import ExportError
from ec_estimator.export.parity import (
    FLOAT,
    QUANTIZED,
    Limits,
    accuracy,
    check_parity,
    compare,
    failures,
)
from ec_estimator.export.samples import Samples

SCORES = np.array([[1.0, 4.0], [3.0, 2.0], [0.0, -1.0], [2.0, 2.0]], np.float32)


def compared(expected, answer):
    return compare({"y": np.asarray(expected)}, {"y": np.asarray(answer)})["y"]


def test_figures_of_scores():
    # The second example changes its class, the last one's two are equally good.
    answer = SCORES + [[0, 0], [-0.5, 1], [0, 0], [0, 0.25]]
    assert compared(SCORES, answer) == {
        "max_abs_difference": 1.0,
        "largest_answer": 4.0,
        "relative_difference": 0.25,
        # Squares: 0.25 + 1 + 0.0625, of 1 + 16 + 9 + 4 + 1 + 4 + 4.
        "rms_difference": pytest.approx((1.3125 / 39) ** 0.5),
        "not_finite": 0,
        "top_1": 0.75,
    }


def test_a_class_that_is_as_good_but_for_rounding_is_the_same():
    near = np.array([[1.0, 1.0 - 1e-6]], np.float32)
    assert compared(near, near[:, ::-1])["top_1"] == 1.0
    far = np.array([[1.0, 1.0 - 1e-3]], np.float32)
    assert compared(far, far[:, ::-1])["top_1"] == 0.0


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 3, 2)])
def test_only_a_score_for_each_class_has_a_top_1(shape):
    assert "top_1" not in compared(np.ones(shape), np.ones(shape))
    assert "top_1" in compared(np.ones((4, 2)), np.ones((4, 2)))


def test_numbers_that_one_of_the_two_does_not_have_are_counted():
    expected = [np.nan, np.inf, np.inf, 1.0, 2.0]
    figures = compared(expected, [np.nan, np.inf, -np.inf, np.nan, 2.0])
    assert figures["not_finite"] == 2
    assert figures["max_abs_difference"] == 0.0
    assert len(failures({"y": figures}, QUANTIZED)) == 1


def test_answers_of_zero_are_compared_too():
    assert compared([0.0], [0.0])["relative_difference"] == 0.0
    assert compared([0.0], [1e-3])["relative_difference"] > 1.0


def test_integers_and_strings_are_equal_or_not():
    assert compared([1, 2, 3, 4], [1, 2, 3, 5]) == {"equal": 0.75}
    assert compared([b"a", b"b"], [b"a", b"c"]) == {"equal": 0.5}


@pytest.mark.parametrize(
    "answers,message",
    [
        ({}, "the engine does not give output 'y'"),
        ({"y": np.ones((2, 3))}, r"'y' with shape \(2, 3\), TensorFlow with \(2,\)"),
    ],
)
def test_an_output_that_cannot_be_compared_is_an_error(answers, message):
    with pytest.raises(ExportError, match=message):
        compare({"y": np.ones(2)}, answers)


# Figures of an output that is as it should be, beside those that a test is about.
SAME = {"relative_difference": 0.0, "rms_difference": 0.0, "not_finite": 0}


@pytest.mark.parametrize(
    "figures,limits,passes",
    [
        ({**SAME, "top_1": 0.9989}, FLOAT, False),
        ({**SAME, "top_1": 0.9991}, FLOAT, True),
        ({**SAME, "top_1": 1.0, "relative_difference": 0.002}, FLOAT, False),
        ({**SAME, "top_1": 1.0, "rms_difference": 0.002}, FLOAT, False),
        ({**SAME, "top_1": 0.991, "relative_difference": 0.5}, QUANTIZED, True),
        ({**SAME, "top_1": 0.98}, QUANTIZED, False),
        ({**SAME, "top_1": 1.0, "rms_difference": 0.11}, QUANTIZED, False),
        ({**SAME, "relative_difference": 0.09}, QUANTIZED, True),
        ({**SAME, "relative_difference": 0.11}, QUANTIZED, False),
        ({**SAME, "rms_difference": 0.11}, QUANTIZED, False),
        ({**SAME, "not_finite": 1}, QUANTIZED, False),
        ({"equal": 0.98}, QUANTIZED, False),
        ({"equal": 0.98}, Limits(0.9, 0, 0), True),
    ],
)
def test_limits(figures, limits, passes):
    assert (failures({"y": figures}, limits) == []) is passes


def test_a_failure_says_which_output_and_by_how_much():
    assert failures({"y": {**SAME, "relative_difference": 0.5}}, QUANTIZED) == [
        "output 'y': relative_difference is 0.5, the limit is 0.1"
    ]


def softmax(scores):
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


@pytest.mark.parametrize("classes", [10, 1000])
def test_probabilities_are_wrong_though_the_classes_fit(classes):
    scores = 20 * np.eye(classes)[np.arange(64) % classes]
    figures = compared(softmax(scores), softmax(scores / 5))
    assert figures["top_1"] == 1.0
    (failed,) = failures({"y": figures}, QUANTIZED)
    assert "rms_difference is" in failed and "the limit is 0.1" in failed


def test_one_example_in_a_hundred_may_get_another_class():
    expected = np.eye(10)[np.arange(256) % 10]
    answer = expected.copy()
    answer[0] = expected[1]
    assert failures({"y": compared(expected, answer)}, QUANTIZED) == []


def test_boxes_are_not_right_because_their_largest_side_is():
    boxes = np.random.RandomState(0).uniform(0, 30, (64, 4)) + [0, 0, 0, 50]
    answer = boxes * [1.0, 1.5, 0.5, 1.0]
    figures = compared(boxes, answer)
    assert figures["top_1"] == 1.0
    assert failures({"y": figures}, QUANTIZED)


def test_accuracy_is_of_outputs_that_have_every_label():
    labels = np.array([1, 0, 1, 0])
    outputs = {"y": SCORES, "z": SCORES[:, 0], "class": labels}
    assert accuracy(outputs, labels) == {"y": 0.75}
    assert accuracy(outputs, labels + 1) == {}


def test_tensorflow_and_the_engine_are_asked_the_same():
    samples = Samples({"x": SCORES}, np.array([1, 0, 0, 0]), "")
    parity = check_parity(
        lambda inputs: {"y": inputs["x"]},
        lambda inputs: {"y": -inputs["x"]},
        samples,
        FLOAT,
    )
    assert parity["samples"] == 4
    assert parity["accuracy"] == {"tensorflow": {"y": 1.0}, "engine": {"y": 0.25}}
    assert parity["outputs"]["y"]["max_abs_difference"] == 8.0
    assert len(parity["failed"]) == 3


def test_an_output_that_is_missing_fails():
    samples = Samples({"x": SCORES}, None, "")
    parity = check_parity(lambda x: {"y": x["x"]}, lambda x: {}, samples, FLOAT)
    assert parity["failed"] == ["the engine does not give output 'y'"]
    assert "outputs" not in parity


def test_not_a_number_is_within_no_limit():
    assert failures({"y": {"equal": float("nan")}}, FLOAT)
